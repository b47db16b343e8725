/* See intaglio_linux.h. */
#define _POSIX_C_SOURCE 200809L

#include "intaglio_linux.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REGISTERS_BYTES 4096u
#define SLICE_MILLISECONDS 10 /* of a sleep: an interrupt that is lost delays the end by no more */

struct intaglio_linux {
    volatile uint32_t *registers;
    uint8_t *memory;
    uint64_t address;
    uint32_t bytes;
    int file;       /* of the UIO device */
    int interrupts; /* whether it has any */
    intaglio_port port;
    intaglio_device device;
    intaglio_program program;
};

static uint32_t read32(void *context, uint32_t offset)
{
    const intaglio_linux *machine = context;
    return machine->registers[offset / 4u];
}

static void write32(void *context, uint32_t offset, uint32_t value)
{
    intaglio_linux *machine = context;
    /* What was written to memory is there before the machine is told. */
    __sync_synchronize();
    machine->registers[offset / 4u] = value;
}

static uint32_t milliseconds(void *context)
{
    struct timespec now;
    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)now.tv_sec * 1000u + (uint32_t)(now.tv_nsec / 1000000);
}

/* UIO masks an interrupt when it comes; a word written to the device unmasks it, a word read is how many came. */
static void sleep_until_interrupt(void *context)
{
    intaglio_linux *machine = context;
    uint32_t word = 1;
    struct pollfd wanted = {machine->file, POLLIN, 0};
    if (!machine->interrupts || write(machine->file, &word, sizeof word) != (ssize_t)sizeof word) {
        (void)poll(NULL, 0, 1);
        return;
    }
    if (poll(&wanted, 1, SLICE_MILLISECONDS) == 1 && read(machine->file, &word, sizeof word) == (ssize_t)sizeof word)
        (void)intaglio_interrupt(&machine->device);
}

static void *map(int file, uint64_t offset, size_t bytes)
{
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)offset);
    return mapped == MAP_FAILED ? NULL : mapped;
}

intaglio_linux *intaglio_linux_open(const char *registers, const char *memory, uint64_t offset, uint64_t address, uint32_t bytes,
                                    intaglio_status *status)
{
    struct stat kind;
    intaglio_linux *machine = calloc(1, sizeof *machine);
    /* Opened so, u-dma-buf and /dev/mem map memory that no cache holds: there is nothing to clean or invalidate. */
    const int held = open(memory, O_RDWR | O_SYNC | O_CLOEXEC);
    if (!machine || held < 0) {
        free(machine);
        return NULL;
    }
    machine->address = address;
    machine->bytes = bytes;
    machine->memory = map(held, offset, bytes);
    close(held);
    machine->file = open(registers, O_RDWR | O_SYNC | O_CLOEXEC);
    machine->registers = machine->file < 0 ? NULL : map(machine->file, 0, REGISTERS_BYTES);
    if (!machine->memory || !machine->registers) {
        intaglio_linux_close(machine);
        return NULL;
    }
    machine->interrupts = !fstat(machine->file, &kind) && S_ISCHR(kind.st_mode);
    machine->port = (intaglio_port){machine, read32, write32, NULL, NULL, sleep_until_interrupt, milliseconds};
    *status = intaglio_open(&machine->device, &machine->port);
    return machine;
}

void intaglio_linux_close(intaglio_linux *machine)
{
    if (machine->registers)
        munmap((void *)(uintptr_t)machine->registers, REGISTERS_BYTES);
    if (machine->memory)
        munmap(machine->memory, machine->bytes);
    if (machine->file >= 0)
        close(machine->file);
    free(machine);
}

intaglio_status intaglio_linux_load(intaglio_linux *machine, const void *artifact, uint32_t bytes)
{
    uint32_t place = 0;
    intaglio_region region;
    if (machine->device.running)
        return INTAGLIO_RUNNING;
    intaglio_status status = intaglio_load(&machine->program, &machine->device, artifact, bytes);
    for (uint32_t number = 0; !status && !intaglio_get_region(&machine->program, number, &region); number++) {
        const uint32_t aligned = place + (0u - place) % region.alignment;
        if (!region.bytes)
            continue;
        if (aligned < place || aligned > machine->bytes || region.bytes > machine->bytes - aligned)
            return INTAGLIO_SHORT;
        status = intaglio_bind(&machine->program, number, machine->memory + aligned, machine->address + aligned, region.bytes);
        place = aligned + region.bytes;
    }
    return status;
}

intaglio_status intaglio_linux_write(intaglio_linux *machine, uint32_t tensor, const void *bytes)
{
    intaglio_tensor found;
    const intaglio_status status = intaglio_get_tensor(&machine->program, tensor, &found);
    uint8_t *memory = status ? NULL : intaglio_tensor_memory(&machine->program, &found);
    if (!memory)
        return status ? status : INTAGLIO_UNBOUND;
    memcpy(memory, bytes, found.bytes);
    return INTAGLIO_OK;
}

intaglio_status intaglio_linux_read(intaglio_linux *machine, uint32_t tensor, void *bytes)
{
    intaglio_tensor found;
    const intaglio_status status = intaglio_get_tensor(&machine->program, tensor, &found);
    const uint8_t *memory = status ? NULL : intaglio_tensor_memory(&machine->program, &found);
    if (!memory)
        return status ? status : INTAGLIO_UNBOUND;
    memcpy(bytes, memory, found.bytes);
    return INTAGLIO_OK;
}

intaglio_status intaglio_linux_start(intaglio_linux *machine)
{
    return intaglio_start(&machine->program);
}

intaglio_status intaglio_linux_wait(intaglio_linux *machine, uint32_t timeout)
{
    return intaglio_wait(&machine->program, timeout);
}

void intaglio_linux_abort(intaglio_linux *machine)
{
    intaglio_abort(&machine->program);
}

void intaglio_linux_result(const intaglio_linux *machine, uint32_t counters[INTAGLIO_COUNTERS])
{
    intaglio_result(&machine->program, counters);
}

intaglio_status intaglio_linux_layer_cycles(const intaglio_linux *machine, uint32_t layer, uint32_t *cycles)
{
    return intaglio_layer_cycles(&machine->program, layer, cycles);
}

size_t intaglio_linux_fault_text(const intaglio_linux *machine, char *text, size_t bytes)
{
    intaglio_fault fault;
    intaglio_get_fault(&machine->program, &fault);
    return intaglio_fault_text(&fault, text, bytes);
}
