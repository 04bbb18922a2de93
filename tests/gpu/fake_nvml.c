/* A look-alike of libnvidia-ml.so.1 for tests: the functions that nvidia-ml-py calls for a sample, with the real
 * signatures and structures. The environment describes the machine:
 *
 *   FAKE_NVML       "init=0;name=A100,uuid=GPU-1,total=80,used=10,util=5,temp=40,power=250000,procs=12:8/13:na;name=…"
 *                   The first part may be init=CODE or count=CODE (the NVML error those calls return); each other part
 *                   is a device. FIELD_error=CODE makes one field fail (memory, util, temp, power, procs, handle);
 *                   lost_after=N makes the device fall off the bus after N looks at its memory, hang=PATH makes that
 *                   look block until somebody opens the FIFO at PATH for writing.
 *   FAKE_NVML_LOG   A file to which the name of each call is appended.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, GPU_IS_LOST = 15, UNINITIALIZED = 1, MAX_DEVICES = 16, MAX_PROCESSES = 64 };

typedef unsigned long long bytes;
typedef struct { bytes total, free, used; } memory_info;
typedef struct { unsigned int gpu, memory; } utilization;
typedef struct { unsigned int pid; bytes used; unsigned int gpu_instance, compute_instance; } process_info;
typedef struct {
    char name[96], uuid[96], hang[256];
    bytes total, used;
    unsigned int util, temp, power, process_count;
    process_info processes[MAX_PROCESSES];
    int handle_error, memory_error, util_error, temp_error, power_error, procs_error;
    long lost_after, looks;
} device;

static device devices[MAX_DEVICES];
static unsigned int device_count;
static int initialised, count_error;

static void note(const char *call) {
    const char *path = getenv("FAKE_NVML_LOG");
    if (path == NULL) return;
    FILE *file = fopen(path, "a");
    if (file == NULL) return;
    fprintf(file, "%s\n", call);
    fclose(file);
}

static void read_processes(device *d, char *text) {
    char *rest = NULL;
    for (char *one = strtok_r(text, "/", &rest); one; one = strtok_r(NULL, "/", &rest)) {
        char *colon = strchr(one, ':');
        process_info *p = &d->processes[d->process_count++];
        p->pid = (unsigned int)strtoul(one, NULL, 10);
        p->used = strcmp(colon + 1, "na") == 0 ? (bytes)-1 : strtoull(colon + 1, NULL, 10);
    }
}

static void read_field(device *d, const char *key, char *value) {
    if (!strcmp(key, "name")) strncpy(d->name, value, sizeof d->name - 1);
    else if (!strcmp(key, "uuid")) strncpy(d->uuid, value, sizeof d->uuid - 1);
    else if (!strcmp(key, "hang")) strncpy(d->hang, value, sizeof d->hang - 1);
    else if (!strcmp(key, "total")) d->total = strtoull(value, NULL, 10);
    else if (!strcmp(key, "used")) d->used = strtoull(value, NULL, 10);
    else if (!strcmp(key, "util")) d->util = (unsigned int)atoi(value);
    else if (!strcmp(key, "temp")) d->temp = (unsigned int)atoi(value);
    else if (!strcmp(key, "power")) d->power = (unsigned int)atoi(value);
    else if (!strcmp(key, "procs")) read_processes(d, value);
    else if (!strcmp(key, "handle_error")) d->handle_error = atoi(value);
    else if (!strcmp(key, "memory_error")) d->memory_error = atoi(value);
    else if (!strcmp(key, "util_error")) d->util_error = atoi(value);
    else if (!strcmp(key, "temp_error")) d->temp_error = atoi(value);
    else if (!strcmp(key, "power_error")) d->power_error = atoi(value);
    else if (!strcmp(key, "procs_error")) d->procs_error = atoi(value);
    else if (!strcmp(key, "lost_after")) d->lost_after = atol(value);
    else abort();
}

static int read_machine(void) {
    static char text[16384];
    const char *given = getenv("FAKE_NVML");
    int init_error = SUCCESS;
    device_count = 0;
    count_error = SUCCESS;
    memset(devices, 0, sizeof devices);
    strncpy(text, given ? given : "", sizeof text - 1);
    char *parts = NULL;
    for (char *part = strtok_r(text, ";", &parts); part; part = strtok_r(NULL, ";", &parts)) {
        if (!strncmp(part, "init=", 5)) { init_error = atoi(part + 5); continue; }
        if (!strncmp(part, "count=", 6)) { count_error = atoi(part + 6); continue; }
        device *d = &devices[device_count++];
        d->lost_after = -1;
        char *fields = NULL;
        for (char *field = strtok_r(part, ",", &fields); field; field = strtok_r(NULL, ",", &fields)) {
            char *equals = strchr(field, '=');
            *equals = 0;
            read_field(d, field, equals + 1);
        }
    }
    return init_error;
}

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    note("init");
    int error = read_machine();
    if (error == SUCCESS) initialised++;
    return error;
}

int nvmlShutdown(void) {
    note("shutdown");
    if (!initialised) return UNINITIALIZED;
    initialised--;
    return SUCCESS;
}

const char *nvmlErrorString(int error) {
    (void)error;
    return "an error of the look-alike";
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
    note("count");
    if (!initialised) return UNINITIALIZED;
    *count = device_count;
    return count_error;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device **handle) {
    note("handle");
    if (index >= device_count) return NOT_FOUND;
    *handle = &devices[index];
    return devices[index].handle_error;
}

int nvmlDeviceGetName(device *d, char *name, unsigned int length) {
    note("name");
    strncpy(name, d->name, length);
    return SUCCESS;
}

int nvmlDeviceGetUUID(device *d, char *uuid, unsigned int length) {
    note("uuid");
    strncpy(uuid, d->uuid, length);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device *d, memory_info *memory) {
    note("memory");
    if (!initialised) return UNINITIALIZED;
    if (d->hang[0]) close(open(d->hang, O_RDONLY));
    if (d->lost_after >= 0 && d->looks++ >= d->lost_after) return GPU_IS_LOST;
    memory->total = d->total;
    memory->used = d->used;
    memory->free = d->total - d->used;
    return d->memory_error;
}

int nvmlDeviceGetUtilizationRates(device *d, utilization *rates) {
    note("utilization");
    rates->gpu = d->util;
    rates->memory = 0;
    return d->util_error;
}

int nvmlDeviceGetTemperature(device *d, int sensor, unsigned int *celsius) {
    (void)sensor;
    note("temperature");
    *celsius = d->temp;
    return d->temp_error;
}

int nvmlDeviceGetPowerUsage(device *d, unsigned int *milliwatts) {
    note("power");
    *milliwatts = d->power;
    return d->power_error;
}

/* A driver older than 510 has only the second version of this function. */
#ifdef OLD_DRIVER
#define RUNNING_PROCESSES nvmlDeviceGetComputeRunningProcesses_v2
#else
#define RUNNING_PROCESSES nvmlDeviceGetComputeRunningProcesses_v3
#endif

int RUNNING_PROCESSES(device *d, unsigned int *count, process_info *processes) {
    note("processes");
    if (d->procs_error) return d->procs_error;
    if (*count < d->process_count) {
        *count = d->process_count;
        return INSUFFICIENT_SIZE;
    }
    *count = d->process_count;
    if (d->process_count) memcpy(processes, d->processes, d->process_count * sizeof *processes);
    return SUCCESS;
}
