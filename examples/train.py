"""Train a small network: fastdrop.Dropout stands where torch.nn.Dropout stood."""

import torch

import fastdrop

torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Linear(32, 256),
    torch.nn.ReLU(),
    fastdrop.Dropout(0.1),
    torch.nn.Linear(256, 1),
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
x = torch.randn(512, 32)
y = x.sum(1, keepdim=True).sin()

for step in range(201):
    loss = torch.nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:3}: loss {loss.item():.4f}")
