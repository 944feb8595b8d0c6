/* A stand-in for NVIDIA's libnvidia-ml.so.1 that serves the GPUs described in a text file.

   SNUG_TEST_NVML names the file. It is read again at every query, so that figures may change between two
   looks; writers replace it as a whole. Lines are "key values"; "gpu NAME" begins the next GPU and the
   lines after it belong to it. A figure that has no line is answered with NVML_ERROR_NOT_SUPPORTED, as
   real boards do.

     driver_version TEXT          cuda_version 13000
     init_error CODE              nvmlInit answers CODE (9: driver not loaded, 18: version mismatch, ...)
     count_error CODE             nvmlDeviceGetCount answers CODE
     gpu NAME                     uuid TEXT
     memory TOTAL FREE            utilization PERCENT      temperature CELSIUS
     compute MAJOR MINOR          cores N                  sm_clock MHZ
     bus_width BITS               memory_clock MHZ         pcie GENERATION LANES
     display ACTIVE CONNECTED     mig CURRENT              nvlink PEER_INDEX
     process PID BYTES            graphics PID BYTES       (-1: the driver does not tell)
     lost CODE                    every query about this GPU answers CODE (15: lost)
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7 };
enum { MAX_GPUS = 32, MAX_LINE = 512 };

typedef unsigned long long u64;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; u64 bytes; unsigned instance, compute; } Process;

static int initialised = 0;
static int handles[MAX_GPUS];

/* Copies the `nth` value of `key` (of GPU `gpu`, or of the whole machine for -1). Returns 1 when found. */
static int lookup(int gpu, const char *key, int nth, char *value)
{
    const char *path = getenv("SNUG_TEST_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[MAX_LINE];
    int current = -1, found = 0;
    if (!file)
        return 0;
    while (!found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = 0;
        char *space = strchr(line, ' ');
        if (!space)
            continue;
        *space = 0;
        if (!strcmp(line, "gpu"))
            current++;
        if (current == gpu && !strcmp(line, key) && nth-- == 0) {
            strcpy(value, space + 1);
            found = 1;
        }
    }
    fclose(file);
    return found;
}

static int count_gpus(void)
{
    char value[MAX_LINE];
    int count = 0;
    while (count < MAX_GPUS && lookup(count, "gpu", 0, value))
        count++;
    return count;
}

static int index_of(const int *handle) { return (int)(handle - handles); }

/* Answers with the status that stands before any figure of this GPU: not initialised, or lost. */
static int status_of(const int *handle)
{
    char value[MAX_LINE];
    if (!initialised)
        return UNINITIALIZED;
    if (handle < handles || handle >= handles + MAX_GPUS)
        return INVALID;
    return lookup(index_of(handle), "lost", 0, value) ? atoi(value) : SUCCESS;
}

/* Reads up to two whole numbers of a GPU's line. */
static int figures(const int *handle, const char *key, u64 *first, u64 *second)
{
    char value[MAX_LINE];
    u64 a = 0, b = 0;
    int status = status_of(handle);
    if (status != SUCCESS)
        return status;
    if (!lookup(index_of(handle), key, 0, value))
        return NOT_SUPPORTED;
    sscanf(value, "%llu %llu", &a, &b);
    if (first)
        *first = a;
    if (second)
        *second = b;
    return SUCCESS;
}

static int one(const int *handle, const char *key, unsigned *out)
{
    u64 value = 0;
    int status = figures(handle, key, &value, NULL);
    if (status == SUCCESS)
        *out = (unsigned)value;
    return status;
}

static int text(const int *handle, const char *key, char *out, unsigned size)
{
    char value[MAX_LINE];
    int status = status_of(handle);
    if (status != SUCCESS)
        return status;
    if (!lookup(index_of(handle), key, 0, value))
        return NOT_SUPPORTED;
    if (strlen(value) + 1 > size)
        return TOO_SMALL;
    strcpy(out, value);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags)
{
    char value[MAX_LINE];
    (void)flags;
    if (lookup(-1, "init_error", 0, value))
        return atoi(value);
    initialised++;
    return SUCCESS;
}

int nvmlShutdown(void)
{
    if (!initialised)
        return UNINITIALIZED;
    initialised--;
    return SUCCESS;
}

const char *nvmlErrorString(int status)
{
    switch (status) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case NOT_SUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

static int system_text(const char *key, char *out, unsigned size)
{
    char value[MAX_LINE];
    if (!initialised)
        return UNINITIALIZED;
    if (!lookup(-1, key, 0, value))
        return NOT_SUPPORTED;
    if (strlen(value) + 1 > size)
        return TOO_SMALL;
    strcpy(out, value);
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) { return system_text("driver_version", out, size); }
int nvmlSystemGetNVMLVersion(char *out, unsigned size) { return system_text("driver_version", out, size); }

int nvmlSystemGetCudaDriverVersion(int *out)
{
    char value[MAX_LINE];
    int status = system_text("cuda_version", value, sizeof value);
    if (status == SUCCESS)
        *out = atoi(value);
    return status;
}
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }

int nvmlSystemGetProcessName(unsigned pid, char *out, unsigned size)
{
    char value[MAX_LINE];
    for (int nth = 0; lookup(-1, "process_name", nth, value); nth++) {
        char *name = NULL;
        if (strtoul(value, &name, 10) == pid && *name == ' ' && strlen(name) <= size) {
            strcpy(out, name + 1);
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetCount_v2(unsigned *out)
{
    char value[MAX_LINE];
    if (!initialised)
        return UNINITIALIZED;
    if (lookup(-1, "count_error", 0, value))
        return atoi(value);
    *out = (unsigned)count_gpus();
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, int **out)
{
    if (!initialised)
        return UNINITIALIZED;
    if ((int)index >= count_gpus())
        return INVALID;
    *out = &handles[index];
    return status_of(*out);
}

int nvmlDeviceGetName(const int *gpu, char *out, unsigned size) { return text(gpu, "gpu", out, size); }
int nvmlDeviceGetUUID(const int *gpu, char *out, unsigned size) { return text(gpu, "uuid", out, size); }

int nvmlDeviceGetMemoryInfo(const int *gpu, Memory *out)
{
    u64 total = 0, free_bytes = 0;
    int status = figures(gpu, "memory", &total, &free_bytes);
    if (status == SUCCESS) {
        out->total = total;
        out->free = free_bytes;
        out->used = total - free_bytes;
    }
    return status;
}

int nvmlDeviceGetUtilizationRates(const int *gpu, Utilization *out)
{
    out->memory = 0;
    return one(gpu, "utilization", &out->gpu);
}

int nvmlDeviceGetTemperature(const int *gpu, unsigned sensor, unsigned *out)
{
    (void)sensor;
    return one(gpu, "temperature", out);
}

int nvmlDeviceGetCudaComputeCapability(const int *gpu, int *major, int *minor)
{
    u64 a = 0, b = 0;
    int status = figures(gpu, "compute", &a, &b);
    *major = (int)a;
    *minor = (int)b;
    return status;
}

static int pair(const int *gpu, const char *key, int second, unsigned *out)
{
    u64 values[2] = {0, 0};
    int status = figures(gpu, key, &values[0], &values[1]);
    if (status == SUCCESS)
        *out = (unsigned)values[second];
    return status;
}

int nvmlDeviceGetDisplayActive(const int *gpu, unsigned *out) { return pair(gpu, "display", 0, out); }
int nvmlDeviceGetDisplayMode(const int *gpu, unsigned *out) { return pair(gpu, "display", 1, out); }
int nvmlDeviceGetMaxPcieLinkGeneration(const int *gpu, unsigned *out) { return pair(gpu, "pcie", 0, out); }
int nvmlDeviceGetMaxPcieLinkWidth(const int *gpu, unsigned *out) { return pair(gpu, "pcie", 1, out); }
int nvmlDeviceGetCurrPcieLinkWidth(const int *gpu, unsigned *out) { return pair(gpu, "pcie", 1, out); }
int nvmlDeviceGetMemoryBusWidth(const int *gpu, unsigned *out) { return one(gpu, "bus_width", out); }
int nvmlDeviceGetNumGpuCores(const int *gpu, unsigned *out) { return one(gpu, "cores", out); }

int nvmlDeviceGetMaxClockInfo(const int *gpu, unsigned type, unsigned *out)
{
    return one(gpu, type == 2 ? "memory_clock" : "sm_clock", out);
}

int nvmlDeviceGetMigMode(const int *gpu, unsigned *current, unsigned *pending)
{
    int status = one(gpu, "mig", current);
    *pending = *current;
    return status;
}

int nvmlDeviceGetP2PStatus(const int *gpu, const int *other, unsigned kind, unsigned *out)
{
    char value[MAX_LINE];
    int status = status_of(gpu);
    if (status != SUCCESS)
        return status;
    *out = 4; /* NVML_P2P_STATUS_DISABLED_BY_REGKEY: anything but OK */
    for (int nth = 0; kind == 2 && lookup(index_of(gpu), "nvlink", nth, value); nth++)
        if (atoi(value) == index_of(other))
            *out = 0;
    return SUCCESS;
}

static int processes(const int *gpu, const char *key, unsigned *count, Process *out)
{
    char value[MAX_LINE];
    unsigned room = *count, found = 0;
    int status = status_of(gpu);
    if (status != SUCCESS)
        return status;
    for (; lookup(index_of(gpu), key, (int)found, value); found++) {
        if (out && found < room) {
            long long bytes = -1;
            memset(&out[found], 0, sizeof *out);
            sscanf(value, "%u %lld", &out[found].pid, &bytes);
            out[found].bytes = (u64)bytes;
        }
    }
    *count = found;
    return found > room || (found && !out) ? TOO_SMALL : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(const int *gpu, unsigned *count, Process *out)
{
    return processes(gpu, "process", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(const int *gpu, unsigned *count, Process *out)
{
    return processes(gpu, "graphics", count, out);
}
