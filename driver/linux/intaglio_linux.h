/* The driver on Linux, from a process: a machine behind a UIO device, and memory for its regions out of u-dma-buf or a stretch of
 * /dev/mem that the kernel leaves alone. For C, and for other languages, which see functions of plain numbers and pointers. */
#ifndef INTAGLIO_LINUX_H
#define INTAGLIO_LINUX_H

#include "../intaglio.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct intaglio_linux intaglio_linux;

/* Opens a machine and memory. `registers`: a UIO device, whose first map is the machine's registers. `memory`: a file to map
 * `bytes` bytes of, from `offset` on, which the machine sees at `address`. NULL where a file cannot be opened or mapped, with
 * errno; else `*status` says whether a machine answers. */
intaglio_linux *intaglio_linux_open(const char *registers, const char *memory, uint64_t offset, uint64_t address, uint32_t bytes,
                                    intaglio_status *status);
void intaglio_linux_close(intaglio_linux *machine);

/* Copies the artifact's regions into the memory, one behind the other. The artifact stays where it is. SHORT: they do not fit. */
intaglio_status intaglio_linux_load(intaglio_linux *machine, const void *artifact, uint32_t bytes);

/* A tensor's bytes, as many as it has. UNBOUND: it is in no memory. */
intaglio_status intaglio_linux_write(intaglio_linux *machine, uint32_t tensor, const void *bytes);
intaglio_status intaglio_linux_read(intaglio_linux *machine, uint32_t tensor, void *bytes);

intaglio_status intaglio_linux_start(intaglio_linux *machine);
/* Waits for the end, so many milliseconds at most; sleeps until the interrupt, where the UIO device has one. */
intaglio_status intaglio_linux_wait(intaglio_linux *machine, uint32_t milliseconds);
void intaglio_linux_abort(intaglio_linux *machine);

/* As the driver's functions of these names. */
void intaglio_linux_result(const intaglio_linux *machine, uint32_t counters[INTAGLIO_COUNTERS]);
intaglio_status intaglio_linux_layer_cycles(const intaglio_linux *machine, uint32_t layer, uint32_t *cycles);
size_t intaglio_linux_fault_text(const intaglio_linux *machine, char *text, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
