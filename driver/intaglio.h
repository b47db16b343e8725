/* Driver of an Intaglio machine: C99, freestanding, no allocation, nothing of the C library.
 *
 *     intaglio_open(&device, &port);                     the machine answers, and is one
 *     intaglio_load(&program, &device, file, bytes);     the artifact is whole, and for this machine
 *     intaglio_bind(&program, INTAGLIO_REGION_INPUT, memory, address, bytes);    ... each region that it needs
 *     intaglio_start(&program);
 *     intaglio_wait(&program, timeout);                  INTAGLIO_OK: outputs are in memory
 *
 * Functions return an intaglio_status: INTAGLIO_OK is 0. What they check, they check before they use it: no artifact and no
 * argument makes the driver read or write outside what it was given.
 */
#ifndef INTAGLIO_H
#define INTAGLIO_H

#include <stddef.h>
#include <stdint.h>

#include "intaglio_artifact.h"
#include "intaglio_registers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A status, its number, and what it says. */
#define INTAGLIO_STATUSES(X)                                                                \
    X(OK, 0, "done")                                                                        \
    X(RUNNING, 1, "the machine is at work")                                                 \
    X(IDLE, 2, "nothing was started")                                                       \
    X(TIMEOUT, 3, "the machine did not come to its end in time")                            \
    X(FAULT, 4, "the machine stopped itself")                                               \
    X(NO_MACHINE, 5, "no Intaglio machine answers at these registers")                      \
    X(OTHER_REGISTERS, 6, "the machine's registers are of another version")                 \
    X(NO_ARTIFACT, 7, "this is no artifact")                                                \
    X(OTHER_FORMAT, 8, "the artifact is of another version of the format")                  \
    X(CUT, 9, "the artifact is cut off")                                                    \
    X(DAMAGED, 10, "the artifact's bytes are not those that were written")                  \
    X(MALFORMED, 11, "the artifact contradicts itself")                                     \
    X(OTHER_MACHINE, 12, "the artifact is for another machine")                             \
    X(NONE_SUCH, 13, "the program has no such region, tensor, layer or test")               \
    X(MISALIGNED, 14, "the memory, or the artifact, begins at no multiple of its alignment") \
    X(SHORT, 15, "the memory is smaller than the region")                                   \
    X(WRAPS, 16, "the memory goes beyond the end of the address space")                     \
    X(OVERLAPS, 17, "the memory overlaps that of another region, and one is written")       \
    X(UNBOUND, 18, "a region that the program needs has no memory")                         \
    X(OUT_OF_RANGE, 19, "a value is outside its type")                                      \
    X(NOT_FINITE, 20, "a value is no finite number")                                        \
    X(NO_SCALE, 21, "the tensor states no scale")                                           \
    X(DIFFERS, 22, "a tensor is not the one that the self-test wants")

#define INTAGLIO_STATUS(name, number, text) INTAGLIO_##name = number,
typedef enum { INTAGLIO_STATUSES(INTAGLIO_STATUS) } intaglio_status;
#undef INTAGLIO_STATUS

/* How the driver reaches a machine. Hooks that may be NULL: clean and invalidate where the machine sees what the processor's
 * caches hold; pause, which returns when there is something new or soon (wait for an interrupt); clock, a counter that goes up
 * and wraps at 32 bits. */
typedef struct {
    void *context; /* the first argument of each */
    uint32_t (*read32)(void *context, uint32_t offset);
    void (*write32)(void *context, uint32_t offset, uint32_t value);
    void (*clean)(void *context, const void *memory, uint32_t bytes);
    void (*invalidate)(void *context, void *memory, uint32_t bytes);
    void (*pause)(void *context);
    uint32_t (*clock)(void *context);
} intaglio_port;

struct intaglio_program;

typedef struct {
    const intaglio_port *port;
    uint32_t fingerprint;
    struct intaglio_program *running; /* NULL: none */
} intaglio_device;

/* Memory of a region: where the processor sees it and where the machine does. */
typedef struct {
    uint8_t *memory;
    uint64_t address;
    uint32_t bytes; /* 0: none is bound */
} intaglio_memory;

typedef struct intaglio_program {
    intaglio_device *device;
    const uint8_t *artifact;
    uint32_t address_bits, command_offset, command_count, flags;
    uint32_t offset[INTAGLIO_PARTS], count[INTAGLIO_PARTS];
    intaglio_memory bound[INTAGLIO_REGIONS];
    intaglio_status ended; /* how the last run did */
} intaglio_program;

typedef struct {
    uint32_t rights, bytes, alignment; /* rights: INTAGLIO_READS, INTAGLIO_WRITES */
    const uint8_t *contents;           /* what it holds before the first start */
    uint32_t contents_bytes;
} intaglio_region;

/* The fields are those of the artifact's table of tensors, whose other parts `shape` and `scale` are indices into. */
typedef struct {
    const char *name;
    uint32_t role, kind, bits, edge_kind, edge_bits, digits, element_bits;
    uint32_t region, offset, bytes, elements;
    uint32_t rank, shape, scales, scale, axis;
} intaglio_tensor;

typedef struct {
    const char *name, *op;
    uint32_t mark;
    uint64_t macs;
    uint32_t tensor; /* INTAGLIO_ABSENT: its output is not stored */
} intaglio_layer;

typedef struct {
    uint32_t cause, command;
    uint64_t address;
    const char *owner; /* the layer or the tensor that the command works for; NULL where there is no such command */
} intaglio_fault;

/* The machine */

/* Looks who is there. `port` stays as long as the device is used. */
intaglio_status intaglio_open(intaglio_device *device, const intaglio_port *port);
/* Whether the interrupt was this machine's; it is quiet then. What to call in the interrupt's service. */
int intaglio_interrupt(intaglio_device *device);

/* Programs. The artifact lies at a multiple of 4, and stays where it is as long as the program is used. */

intaglio_status intaglio_load(intaglio_program *program, intaglio_device *device, const void *artifact, size_t bytes);
/* Gives a region its memory, and fills it with what it is to hold before the first start. `memory` NULL: it holds that already
 * (the image in the artifact itself, say), and the processor does not touch it. Again: gives it another. */
intaglio_status intaglio_bind(intaglio_program *program, uint32_t region, void *memory, uint64_t address, uint32_t bytes);
/* What is kept between inferences becomes what it was before the first. */
intaglio_status intaglio_reset_state(intaglio_program *program);
intaglio_status intaglio_start(intaglio_program *program);
/* RUNNING; at the end OK or FAULT, and outputs are in memory. IDLE: it was not started, or the machine was reset. */
intaglio_status intaglio_poll(intaglio_program *program);
/* Polls until the end, TIMEOUT after so many ticks of the clock, or, where there is none, so many polls. */
intaglio_status intaglio_wait(intaglio_program *program, uint32_t timeout);
/* The run ends soon, with the cause ABORTED. */
void intaglio_abort(intaglio_program *program);

/* After a run */

/* What the machine counted, by INTAGLIO_COUNTER_... */
void intaglio_result(const intaglio_program *program, uint32_t counters[INTAGLIO_COUNTERS]);
/* Cycles from the completion of the layer before to that of this one; all layers' add up to the run's. */
intaglio_status intaglio_layer_cycles(const intaglio_program *program, uint32_t layer, uint32_t *cycles);
void intaglio_get_fault(const intaglio_program *program, intaglio_fault *fault);
/* One line, cut to `bytes`, its ending zero included: READ_REGION at command 7 (layer conv1), address 0x1040.
 * Its length, uncut. */
size_t intaglio_fault_text(const intaglio_fault *fault, char *text, size_t bytes);

/* What a program consists of; NONE_SUCH behind the last. */

intaglio_status intaglio_get_region(const intaglio_program *program, uint32_t number, intaglio_region *region);
intaglio_status intaglio_get_tensor(const intaglio_program *program, uint32_t index, intaglio_tensor *tensor);
intaglio_status intaglio_get_layer(const intaglio_program *program, uint32_t index, intaglio_layer *layer);
/* Where the tensor lies; NULL where its region has no memory that the processor sees. */
uint8_t *intaglio_tensor_memory(const intaglio_program *program, const intaglio_tensor *tensor);

/* Explanations (intaglio_text.c) */

const char *intaglio_status_text(intaglio_status status);
const char *intaglio_cause_text(uint32_t cause);

/* Values (intaglio_quantize.c): of a tensor's elements from `first` on, `count` of them; `bytes` is the tensor's memory.
 * NONE_SUCH: there are not so many elements. */

/* The tensor's dimension of this number, the first is 0, without the batch; 0 where it has not so many. */
uint32_t intaglio_dimension(const intaglio_program *program, const intaglio_tensor *tensor, uint32_t number);
/* Quantizes: round(value / scale) + zero point, the quotient in single precision, ties away from zero, clamped to the type. */
intaglio_status intaglio_write_floats(const intaglio_program *program, const intaglio_tensor *tensor, uint8_t *bytes,
                                      uint32_t first, uint32_t count, const float *values);
/* scale * (value - zero point), in single precision. */
intaglio_status intaglio_read_floats(const intaglio_program *program, const intaglio_tensor *tensor, const uint8_t *bytes,
                                     uint32_t first, uint32_t count, float *values);
/* Bytes 0...255, of an image say, as integers; into a signed type of 8 bits whose zero point is -128, less 128.
 * OUT_OF_RANGE writes none behind the first that is. */
intaglio_status intaglio_write_pixels(const intaglio_program *program, const intaglio_tensor *tensor, uint8_t *bytes,
                                      uint32_t first, uint32_t count, const uint8_t *values);
/* Stored integers as they are; OUT_OF_RANGE writes none behind the first that is. */
intaglio_status intaglio_write_integers(const intaglio_tensor *tensor, uint8_t *bytes, uint32_t first, uint32_t count,
                                        const int64_t *values);
intaglio_status intaglio_read_integers(const intaglio_tensor *tensor, const uint8_t *bytes, uint32_t first, uint32_t count,
                                       int64_t *values);

/* Self-test (intaglio_self_test.c) */

typedef struct {
    uint32_t tests;  /* that were run, the last included */
    uint32_t equal;  /* tensors that were compared and are right */
    uint32_t test;   /* of what differs: in which test, */
    uint32_t output; /* which output, or */
    uint32_t layer;  /* which layer's, the first in their order (INTAGLIO_ABSENT: it is an output of no layer) */
    uint32_t expected, found;
} intaglio_report;

/* Runs the artifact's own tests; of each, compares every tensor that the program stores: layers in their order, then outputs.
 * NONE_SUCH: it has no tests. DIFFERS: `report` says what. Else what bind, start and wait say. */
intaglio_status intaglio_self_test(intaglio_program *program, uint32_t timeout, intaglio_report *report);
/* CRC-32 of a tensor, in which the bits that no element takes count as zeros. */
uint32_t intaglio_tensor_crc(const intaglio_tensor *tensor, const uint8_t *bytes);

/* Bytes (intaglio_bytes.c) */

/* CRC-32 of `bytes` bytes behind those whose CRC is `before` (0: none). */
uint32_t intaglio_crc(uint32_t before, const uint8_t *data, uint32_t bytes);
/* A word of the artifact. */
uint32_t intaglio_word(const uint8_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
