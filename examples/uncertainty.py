"""How sure is a regression? Monte Carlo dropout: the spread grows where there were no data."""

import torch

import fastdrop

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(1, 128),
    torch.nn.ReLU(),
    fastdrop.Dropout(0.1),
    torch.nn.Linear(128, 128),
    torch.nn.ReLU(),
    fastdrop.Dropout(0.1),
    torch.nn.Linear(128, 1),
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
x = 4 * torch.rand(256, 1) - 2  # between -2 and 2
y = x.sin()

for _ in range(500):
    loss = torch.nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

where = torch.tensor([[0.0], [1.0], [2.0], [4.0], [8.0]])
prediction = fastdrop.mc_predict(model, where, samples=200, batch_samples=50, seed=0)
for at, mean, std in zip(where, prediction.mean, prediction.std, strict=True):
    print(f"x = {at.item():.0f}: {mean.item():5.2f} +- {std.item():.2f}, sin x = {at.sin().item():5.2f}")
