/* A stand-in for the CUDA driver, for machines without a GPU.
 *
 * It has the entry points that cuda.core needs to load a cubin and launch it, in the driver's own terms and with the
 * driver's own errors. A launch is handed to `standin.on_launch`; device memory is host memory. Any other entry point
 * is answered as an old driver answers for a new one: not found. What is asked for while a process ends (libraries are
 * unloaded then) stays in C, because Python can no longer be called.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERRORS(X)                                                                                        \
  X(SUCCESS, 0) X(ERROR_INVALID_VALUE, 1) X(ERROR_OUT_OF_MEMORY, 2) X(ERROR_NOT_INITIALIZED, 3)          \
  X(ERROR_NO_DEVICE, 100) X(ERROR_INVALID_DEVICE, 101) X(ERROR_INVALID_IMAGE, 200)                       \
  X(ERROR_INVALID_CONTEXT, 201) X(ERROR_NO_BINARY_FOR_GPU, 209) X(ERROR_INVALID_HANDLE, 400)             \
  X(ERROR_NOT_FOUND, 500) X(ERROR_ILLEGAL_ADDRESS, 700) X(ERROR_LAUNCH_OUT_OF_RESOURCES, 701)            \
  X(ERROR_LAUNCH_FAILED, 719) X(ERROR_NOT_SUPPORTED, 801) X(ERROR_STREAM_CAPTURE_UNSUPPORTED, 900)
#define ENUMERATOR(name, code) CUDA_##name = code,
enum { ERRORS(ENUMERATOR) };

enum { MAX_DEVICES = 8, MAX_NESTED = 16, CUDA_MACHINE = 190, PARAMETER_INFO = 0x17, THREADS = 1024 };
#define STREAM_TAG UINT64_C(0x5EED) /* in the upper 16 bits of the streams made here, which no address has */

struct library { Elf64_Ehdr *image; size_t size; }; /* no image: unloaded */
struct kernel { struct library *library; char *name; };
struct config { unsigned grid[3], block[3], shared; uintptr_t stream; void *attributes; unsigned count; };
struct launch { /* _Launch in driver.py */
  struct kernel *kernel; const char *name; const void *image; size_t size; int device;
  unsigned grid[3], block[3]; uintptr_t stream; void **parameters;
};
struct { /* _Settings in driver.py */
  int version, devices, major[MAX_DEVICES], minor[MAX_DEVICES], multiprocessors[MAX_DEVICES];
  int capturing, load_error, launch_error; /* the errors: of the next call, then cleared */
  void (*on_load)(const void *image, size_t size);
  int (*on_launch)(const struct launch *launch); /* none: launches go through unseen */
} standin;

static char contexts[MAX_DEVICES]; /* a device's context is the address of its place here */
static __thread char *current[MAX_NESTED]; /* current[0] is none */
static __thread int depth;

static int device_of(const char *context) { return (int)(context - contexts); }
static int device_of_stream(uintptr_t stream) { /* a stream that was not made here fits any device */
  return stream >> 48 == STREAM_TAG ? (int)(stream & 0xff) : device_of(current[depth]);
}
static int take(int *error) { return __atomic_exchange_n(error, CUDA_SUCCESS, __ATOMIC_SEQ_CST); }
#define REFUSE(condition, error) do { if (condition) return CUDA_##error; } while (0)
#define NEEDS_CONTEXT REFUSE(!current[depth], ERROR_INVALID_CONTEXT)
#define NOT_IN_CAPTURE REFUSE(standin.capturing, ERROR_STREAM_CAPTURE_UNSUPPORTED)

/* The driver and its devices */
int cuInit(unsigned flags) { return standin.devices ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE; }
int cuDriverGetVersion(int *version) { *version = standin.version; return CUDA_SUCCESS; }
int cuDeviceGetCount(int *count) { *count = standin.devices; return CUDA_SUCCESS; }
int cuDeviceGet(int *device, int ordinal) {
  REFUSE(ordinal < 0 || ordinal >= standin.devices, ERROR_INVALID_DEVICE);
  *device = ordinal;
  return CUDA_SUCCESS;
}
int cuDeviceGetName(char *name, int size, int device) {
  REFUSE(device < 0 || device >= standin.devices, ERROR_INVALID_DEVICE);
  snprintf(name, size, "stand-in for sm_%d%d", standin.major[device], standin.minor[device]);
  return CUDA_SUCCESS;
}
int cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 1 + device, 16); return CUDA_SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  REFUSE(device < 0 || device >= standin.devices, ERROR_INVALID_DEVICE);
  switch (attribute) {
    case 1: *value = THREADS; break;                          /* MAX_THREADS_PER_BLOCK */
    case 10: *value = 32; break;                              /* WARP_SIZE */
    case 16: *value = standin.multiprocessors[device]; break; /* MULTIPROCESSOR_COUNT */
    case 39: *value = 2 * THREADS; break;                     /* MAX_THREADS_PER_MULTIPROCESSOR */
    case 75: *value = standin.major[device]; break;           /* COMPUTE_CAPABILITY_MAJOR */
    case 76: *value = standin.minor[device]; break;           /* COMPUTE_CAPABILITY_MINOR */
    default: *value = 0; /* there is no such thing here, memory pools for one */
  }
  return CUDA_SUCCESS;
}

/* Contexts: a stack in every thread, empty in a new one */
int cuDevicePrimaryCtxRetain(char **context, int device) {
  REFUSE(device < 0 || device >= standin.devices, ERROR_INVALID_DEVICE);
  *context = &contexts[device];
  return CUDA_SUCCESS;
}
int cuDevicePrimaryCtxRelease(int device) { return CUDA_SUCCESS; }
int cuCtxGetCurrent(char **context) { *context = current[depth]; return CUDA_SUCCESS; }
int cuCtxPushCurrent(char *context) {
  REFUSE(context < contexts || context >= contexts + MAX_DEVICES || depth + 1 == MAX_NESTED, ERROR_INVALID_CONTEXT);
  current[++depth] = context;
  return CUDA_SUCCESS;
}
int cuCtxPopCurrent(char **context) {
  NEEDS_CONTEXT;
  if (context) *context = current[depth];
  depth--;
  return CUDA_SUCCESS;
}
int cuCtxSetCurrent(char *context) {
  if (depth) depth--;
  return context ? cuCtxPushCurrent(context) : CUDA_SUCCESS;
}
int cuCtxGetDevice(int *device) { NEEDS_CONTEXT; *device = device_of(current[depth]); return CUDA_SUCCESS; }
int cuCtxSynchronize(void) { NEEDS_CONTEXT; NOT_IN_CAPTURE; return CUDA_SUCCESS; }
int cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  NEEDS_CONTEXT;
  *least = *greatest = 0;
  return CUDA_SUCCESS;
}

/* Streams: all work is done when its call returns */
int cuStreamCreateWithPriority(uintptr_t *stream, unsigned flags, int priority) {
  static uintptr_t made;
  NEEDS_CONTEXT;
  *stream = STREAM_TAG << 48 | __atomic_add_fetch(&made, 1, __ATOMIC_SEQ_CST) << 8 | device_of(current[depth]);
  return CUDA_SUCCESS;
}
int cuStreamDestroy(uintptr_t stream) { return CUDA_SUCCESS; }
int cuStreamGetCtx(uintptr_t stream, char **context) {
  NEEDS_CONTEXT;
  *context = &contexts[device_of_stream(stream)];
  return CUDA_SUCCESS;
}
int cuStreamIsCapturing(uintptr_t stream, int *status) { *status = standin.capturing; return CUDA_SUCCESS; }
int cuStreamSynchronize(uintptr_t stream) { NEEDS_CONTEXT; NOT_IN_CAPTURE; return CUDA_SUCCESS; }

/* Libraries and kernels: what the cubin says */
static size_t image_size(const Elf64_Ehdr *image) { /* the program headers come last, as nvJitLink and ptxas write it */
  size_t sections = image->e_shoff + (size_t)image->e_shnum * image->e_shentsize;
  size_t segments = image->e_phoff + (size_t)image->e_phnum * image->e_phentsize;
  return sections > segments ? sections : segments;
}
static const Elf64_Shdr *section(const Elf64_Ehdr *image, const char *prefix, const char *name) {
  const Elf64_Shdr *sections = (const void *)((const char *)image + image->e_shoff);
  const char *names = (const char *)image + sections[image->e_shstrndx].sh_offset;
  for (const Elf64_Shdr *s = sections; s < sections + image->e_shnum; s++) {
    const char *title = names + s->sh_name;
    if (!strncmp(title, prefix, strlen(prefix)) && !strcmp(title + strlen(prefix), name)) return s;
  }
  return NULL;
}
static int runs_on(const Elf64_Ehdr *image, int device) { /* the same generation, and no newer */
  unsigned architecture = (image->e_ident[EI_ABIVERSION] >= 8 ? image->e_flags >> 8 : image->e_flags) & 0xff;
  return (int)architecture / 10 == standin.major[device] && (int)architecture % 10 <= standin.minor[device];
}
int cuLibraryLoadData(struct library **library, const Elf64_Ehdr *code, void *jit_options, void *jit_values,
                      unsigned jit_count, void *options, void *values, unsigned count) {
  NOT_IN_CAPTURE;
  int error = take(&standin.load_error);
  if (error) return error;
  REFUSE(memcmp(code, ELFMAG, SELFMAG) || code->e_machine != CUDA_MACHINE, ERROR_INVALID_IMAGE);
  *library = malloc(sizeof **library);
  (*library)->size = image_size(code);
  (*library)->image = memcpy(malloc((*library)->size), code, (*library)->size);
  standin.on_load((*library)->image, (*library)->size);
  return CUDA_SUCCESS;
}
int cuLibraryUnload(struct library *library) { /* the struct stays, so that a kernel left over is found out */
  free(library->image);
  library->image = NULL;
  return CUDA_SUCCESS;
}
int cuLibraryGetKernel(struct kernel **kernel, struct library *library, const char *name) {
  REFUSE(!library->image, ERROR_INVALID_HANDLE);
  REFUSE(!section(library->image, ".text.", name), ERROR_NOT_FOUND);
  *kernel = malloc(sizeof **kernel);
  **kernel = (struct kernel){library, strdup(name)};
  return CUDA_SUCCESS;
}
int cuKernelGetFunction(struct kernel **function, struct kernel *kernel) { *function = kernel; return CUDA_SUCCESS; }
int cuKernelGetParamInfo(struct kernel *kernel, size_t index, size_t *offset, size_t *size) {
  REFUSE(!kernel->library->image, ERROR_INVALID_HANDLE);
  const Elf64_Shdr *info = section(kernel->library->image, ".nv.info.", kernel->name);
  REFUSE(!info, ERROR_INVALID_VALUE);
  const char *start = (const char *)kernel->library->image + info->sh_offset, *end = start + info->sh_size;
  /* one attribute after the other: its format, its kind, and 16 bits, which in format 4 count the bytes that follow */
  for (const char *a = start; a < end; a += 4 + (a[0] == 4 ? *(const uint16_t *)(a + 2) : 0)) {
    if (a[0] != 4 || a[1] != PARAMETER_INFO || *(const uint16_t *)(a + 8) != index) continue;
    *offset = *(const uint16_t *)(a + 10);
    if (size) *size = *(const uint32_t *)(a + 12) >> 18;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}
int cuLaunchKernelEx(const struct config *config, struct kernel *kernel, void **parameters, void **extra) {
  const unsigned *grid = config->grid, *block = config->block;
  NEEDS_CONTEXT;
  int error = take(&standin.launch_error), device = device_of(current[depth]);
  if (error) return error;
  REFUSE(!kernel->library->image || device_of_stream(config->stream) != device, ERROR_INVALID_HANDLE);
  REFUSE(!runs_on(kernel->library->image, device), ERROR_NO_BINARY_FOR_GPU);
  REFUSE(!grid[0] || !grid[1] || !grid[2] || !block[0] || !block[1] || !block[2], ERROR_INVALID_VALUE);
  REFUSE((uint64_t)block[0] * block[1] * block[2] > THREADS || grid[1] > 65535 || grid[2] > 65535, ERROR_INVALID_VALUE);
  struct launch launch = {kernel, kernel->name, kernel->library->image, kernel->library->size, device,
                          {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, config->stream, parameters};
  return standin.on_launch ? standin.on_launch(&launch) : CUDA_SUCCESS;
}
int cuLaunchKernel(struct kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, uintptr_t stream, void **parameters, void **extra) {
  struct config config = {{gx, gy, gz}, {bx, by, bz}, shared, stream, NULL, 0};
  return cuLaunchKernelEx(&config, kernel, parameters, extra);
}

/* Memory */
int cuMemAlloc(void **address, size_t size) {
  NEEDS_CONTEXT;
  NOT_IN_CAPTURE;
  REFUSE(posix_memalign(address, 256, size), ERROR_OUT_OF_MEMORY);
  return CUDA_SUCCESS;
}
int cuMemFree(void *address) { NOT_IN_CAPTURE; free(address); return CUDA_SUCCESS; }

/* Errors and entry points by name */
int cuGetErrorName(int error, const char **name) {
#define CASE(name_, code) case code: *name = "CUDA_" #name_; return CUDA_SUCCESS;
  switch (error) { ERRORS(CASE) }
  *name = NULL;
  return CUDA_ERROR_INVALID_VALUE;
}
int cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }
int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
  void *here = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD); /* its soname: this very library */
  *function = version > standin.version ? NULL : dlsym(here, symbol); /* version: of CUDA, that brought what is asked for */
  if (status) *status = !*function;
  return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}
