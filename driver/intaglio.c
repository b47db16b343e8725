/* The machine, artifacts and runs. See intaglio.h. */
#include "intaglio.h"

/* A word of the artifact. They are aligned, as the artifact is: one load, where the processor has the order of the file. */
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
typedef uint32_t __attribute__((may_alias)) aligned_word;
#define WORD(bytes) (*(const aligned_word *)(const void *)(bytes))
#else
#define WORD(bytes) intaglio_word(bytes)
#endif

/* That of a record, by the names of its part and its field. */
#define FIELD(record, name) WORD((record) + INTAGLIO_AT_##name)

static const uint8_t RIGHTS[INTAGLIO_REGIONS] = {
#define RIGHT(name, rights) [INTAGLIO_REGION_##name] = (rights),
    INTAGLIO_REGION_RIGHTS(RIGHT)
#undef RIGHT
};

/* Bytes of a record, of each part; 1 where a count is of bytes, 0 where it depends on other parts. */
static const uint8_t RECORD_BYTES[INTAGLIO_PARTS] = {
    [INTAGLIO_PART_REGIONS] = INTAGLIO_BYTES_OF_REGIONS,
    [INTAGLIO_PART_TENSORS] = INTAGLIO_BYTES_OF_TENSORS,
    [INTAGLIO_PART_LAYERS] = INTAGLIO_BYTES_OF_LAYERS,
    [INTAGLIO_PART_DIMENSIONS] = 4,
    [INTAGLIO_PART_SCALES] = INTAGLIO_BYTES_OF_SCALES,
    [INTAGLIO_PART_OWNERS] = 4,
    [INTAGLIO_PART_TEST_INPUTS] = 0,
    [INTAGLIO_PART_TEST_CRCS] = 0,
    [INTAGLIO_PART_STRINGS] = 1,
    [INTAGLIO_PART_CONTENTS] = 1,
};

#if defined(__GNUC__)
#define OUT_OF_LINE __attribute__((noinline)) /* what is called in many places is shorter so */
#else
#define OUT_OF_LINE
#endif

OUT_OF_LINE static uint32_t read_register(const intaglio_device *device, uint32_t offset)
{
    return device->port->read32(device->port->context, offset);
}

OUT_OF_LINE static void write_register(const intaglio_device *device, uint32_t offset, uint32_t value)
{
    device->port->write32(device->port->context, offset, value);
}

OUT_OF_LINE static void invalidate(const intaglio_program *program, uint32_t region)
{
    const intaglio_memory *bound = &program->bound[region];
    const intaglio_port *port = program->device->port;
    if (port->invalidate && bound->memory)
        port->invalidate(port->context, bound->memory, bound->bytes);
}

OUT_OF_LINE static void clean(const intaglio_program *program, uint32_t region)
{
    const intaglio_memory *bound = &program->bound[region];
    const intaglio_port *port = program->device->port;
    if (port->clean && bound->memory)
        port->clean(port->context, bound->memory, bound->bytes);
}

OUT_OF_LINE static const uint8_t *record(const intaglio_program *program, uint32_t part, uint32_t index)
{
    return program->artifact + program->offset[part] + index * RECORD_BYTES[part];
}

OUT_OF_LINE static const char *string(const intaglio_program *program, uint32_t offset)
{
    return (const char *)record(program, INTAGLIO_PART_STRINGS, offset);
}

/* ---- The machine ---- */

intaglio_status intaglio_open(intaglio_device *device, const intaglio_port *port)
{
    device->port = port;
    device->running = NULL;
    if (read_register(device, INTAGLIO_REGISTER_ID) != INTAGLIO_ID)
        return INTAGLIO_NO_MACHINE;
    if (read_register(device, INTAGLIO_REGISTER_VERSION) != INTAGLIO_VERSION)
        return INTAGLIO_OTHER_REGISTERS;
    device->fingerprint = read_register(device, INTAGLIO_REGISTER_FINGERPRINT);
    return INTAGLIO_OK;
}

int intaglio_interrupt(intaglio_device *device)
{
    if (!(read_register(device, INTAGLIO_REGISTER_INTERRUPT) & INTAGLIO_INTERRUPT_PENDING))
        return 0;
    write_register(device, INTAGLIO_REGISTER_INTERRUPT, INTAGLIO_INTERRUPT_PENDING);
    return 1;
}

/* ---- Is an artifact what it says? Each function: 1 if so. Parts that come first are looked at first. ---- */

/* Whether `first` and so many behind it are below `limit`. */
OUT_OF_LINE static int inside(uint32_t first, uint32_t count, uint32_t limit)
{
    return first <= limit && count <= limit - first;
}

OUT_OF_LINE static int is_string(const intaglio_program *program, uint32_t offset)
{
    return offset < program->count[INTAGLIO_PART_STRINGS];
}

static int regions_fit(const intaglio_program *program)
{
    if (program->count[INTAGLIO_PART_REGIONS] != INTAGLIO_REGIONS)
        return 0;
    for (uint32_t number = 0; number < INTAGLIO_REGIONS; number++) {
        const uint8_t *entry = record(program, INTAGLIO_PART_REGIONS, number);
        const uint32_t bytes = FIELD(entry, REGIONS_BYTES), alignment = FIELD(entry, REGIONS_ALIGNMENT);
        const uint32_t filled = FIELD(entry, REGIONS_CONTENTS_BYTES);
        if (FIELD(entry, REGIONS_REGION) != number || FIELD(entry, REGIONS_RIGHTS) != RIGHTS[number])
            return 0;
        if (!alignment || alignment & (alignment - 1u) || bytes & (alignment - 1u) || filled > bytes)
            return 0;
        if (!inside(FIELD(entry, REGIONS_CONTENTS), filled, program->count[INTAGLIO_PART_CONTENTS]))
            return 0;
    }
    return 1;
}

static int shape_fits(const intaglio_program *program, const intaglio_tensor *tensor)
{
    uint64_t elements = 1;
    uint32_t scales = 1;
    if (!inside(tensor->shape, tensor->rank, program->count[INTAGLIO_PART_DIMENSIONS]))
        return 0;
    for (uint32_t axis = 0; axis < tensor->rank; axis++) {
        const uint32_t dimension = WORD(record(program, INTAGLIO_PART_DIMENSIONS, tensor->shape + axis));
        elements *= dimension;
        if (!dimension || elements > UINT32_MAX)
            return 0;
        if (axis == tensor->axis)
            scales = dimension;
    }
    if (elements != tensor->elements || (tensor->axis && tensor->axis >= tensor->rank))
        return 0;
    return tensor->scales <= 1 || tensor->scales == scales;
}

static int tensor_fits(const intaglio_program *program, const intaglio_tensor *tensor)
{
    const uint32_t bits = tensor->element_bits;
    intaglio_region region;
    if (tensor->role > INTAGLIO_ROLE_LAYER || tensor->kind > INTAGLIO_KIND_UNSIGNED ||
        tensor->edge_kind > INTAGLIO_KIND_FLOAT)
        return 0;
    if (bits == 0 || bits > 8 || (bits & (bits - 1u)) || tensor->digits == 0 || tensor->digits > 32u / bits)
        return 0;
    if (tensor->bits == 0 || tensor->bits > tensor->digits * bits)
        return 0;
    if (!shape_fits(program, tensor) || !inside(tensor->scale, tensor->scales, program->count[INTAGLIO_PART_SCALES]))
        return 0;
    if (((uint64_t)tensor->elements * (tensor->digits * bits) + 7u) / 8u != tensor->bytes)
        return 0;
    return intaglio_get_region(program, tensor->region, &region) == INTAGLIO_OK &&
           inside(tensor->offset, tensor->bytes, region.bytes);
}

/* Tensors by role, as they are told apart by the reader of TEST_INPUTS and TEST_CRCS: bytes of a test's inputs, number of
 * outputs. */
static int tensors_fit(const intaglio_program *program, uint32_t *input_bytes, uint32_t *outputs)
{
    uint32_t role = 0, index;
    uint64_t bytes = 0;
    intaglio_tensor tensor;
    *outputs = 0;
    for (index = 0; index < program->count[INTAGLIO_PART_TENSORS]; index++) {
        if (!is_string(program, FIELD(record(program, INTAGLIO_PART_TENSORS, index), TENSORS_NAME)))
            return 0;
        if (intaglio_get_tensor(program, index, &tensor) != INTAGLIO_OK || !tensor_fits(program, &tensor))
            return 0;
        if (tensor.role < role)
            return 0;
        role = tensor.role;
        if (role == INTAGLIO_ROLE_INPUT)
            bytes += ((uint64_t)tensor.bytes + 3u) & ~(uint64_t)3u;
        if (role == INTAGLIO_ROLE_OUTPUT)
            ++*outputs;
    }
    *input_bytes = (uint32_t)bytes;
    return bytes <= UINT32_MAX;
}

/* Positive and finite: what is divided by one is a number. */
static int scales_fit(const intaglio_program *program)
{
    for (uint32_t index = 0; index < program->count[INTAGLIO_PART_SCALES]; index++)
        if (FIELD(record(program, INTAGLIO_PART_SCALES, index), SCALES_SCALE) - 1u >= 0x7f7fffffu)
            return 0;
    return 1;
}

static int layers_fit(const intaglio_program *program)
{
    for (uint32_t index = 0; index < program->count[INTAGLIO_PART_LAYERS]; index++) {
        const uint8_t *entry = record(program, INTAGLIO_PART_LAYERS, index);
        const uint32_t mark = FIELD(entry, LAYERS_MARK), tensor = FIELD(entry, LAYERS_TENSOR);
        if (!is_string(program, FIELD(entry, LAYERS_NAME)) || !is_string(program, FIELD(entry, LAYERS_OP)))
            return 0;
        if ((mark != INTAGLIO_ABSENT && mark >= INTAGLIO_MARKS) ||
            (tensor != INTAGLIO_ABSENT && tensor >= program->count[INTAGLIO_PART_TENSORS]))
            return 0;
    }
    return 1;
}

static int commands_fit(const intaglio_program *program)
{
    const uint32_t count = program->command_count;
    intaglio_region region;
    if (intaglio_get_region(program, INTAGLIO_REGION_PROGRAM, &region) != INTAGLIO_OK || count == 0)
        return 0;
    if (count > UINT32_MAX / INTAGLIO_COMMAND_BYTES || program->command_offset % INTAGLIO_COMMAND_BYTES ||
        !inside(program->command_offset, count * INTAGLIO_COMMAND_BYTES, region.contents_bytes))
        return 0;
    if (program->count[INTAGLIO_PART_OWNERS] != count)
        return 0;
    for (uint32_t index = 0; index < count; index++)
        if (!is_string(program, WORD(record(program, INTAGLIO_PART_OWNERS, index))))
            return 0;
    return 1;
}

/* Bytes of a part of so many records, with its padding; 0 where that is no number of 32 bits. */
static uint64_t part_bytes(uint64_t records, uint32_t record_bytes)
{
    return (records * record_bytes + (INTAGLIO_PART_ALIGNMENT - 1u)) & ~(uint64_t)(INTAGLIO_PART_ALIGNMENT - 1u);
}

static int tests_fit(const intaglio_program *program, const uint8_t *artifact, uint32_t input_bytes, uint32_t outputs)
{
    const uint8_t *parts = artifact + INTAGLIO_AT_HEADER_PARTS;
    const uint8_t *inputs = parts + INTAGLIO_PART_TEST_INPUTS * INTAGLIO_PART_ENTRY_BYTES;
    const uint8_t *crcs = parts + INTAGLIO_PART_TEST_CRCS * INTAGLIO_PART_ENTRY_BYTES;
    const uint32_t tests = program->count[INTAGLIO_PART_TEST_INPUTS];
    const uint32_t words = outputs + program->count[INTAGLIO_PART_LAYERS];
    if (program->count[INTAGLIO_PART_TEST_CRCS] != tests)
        return 0;
    return FIELD(inputs, PART_BYTES) == part_bytes(tests, input_bytes) && words < UINT32_MAX / 4u &&
           FIELD(crcs, PART_BYTES) == part_bytes(tests, words * 4u);
}

/* Where parts are: one behind the other, from the header to the end of the file. */
static intaglio_status find_parts(intaglio_program *program, uint32_t bytes)
{
    uint32_t end = INTAGLIO_HEADER_BYTES;
    for (uint32_t part = 0; part < INTAGLIO_PARTS; part++) {
        const uint8_t *entry = program->artifact + INTAGLIO_AT_HEADER_PARTS + part * INTAGLIO_PART_ENTRY_BYTES;
        const uint32_t size = FIELD(entry, PART_BYTES), count = FIELD(entry, PART_COUNT);
        if (FIELD(entry, PART_OFFSET) != end || size % INTAGLIO_PART_ALIGNMENT || size > bytes - end)
            return INTAGLIO_MALFORMED;
        if (RECORD_BYTES[part] && part_bytes(count, RECORD_BYTES[part]) != size)
            return INTAGLIO_MALFORMED;
        if (intaglio_crc(0, program->artifact + end, size) != FIELD(entry, PART_CRC))
            return INTAGLIO_DAMAGED;
        program->offset[part] = end;
        program->count[part] = count;
        end += size;
    }
    if (end != bytes)
        return INTAGLIO_MALFORMED;
    /* The last string ends within its part. */
    const uint32_t strings = program->count[INTAGLIO_PART_STRINGS];
    return strings && *record(program, INTAGLIO_PART_STRINGS, strings - 1u) == 0 ? INTAGLIO_OK : INTAGLIO_MALFORMED;
}

static intaglio_status check_header(const uint8_t *header, size_t bytes)
{
    if ((uintptr_t)header % 4u)
        return INTAGLIO_MISALIGNED;
    if (bytes < INTAGLIO_HEADER_BYTES)
        return INTAGLIO_CUT;
    if (FIELD(header, HEADER_MAGIC) != INTAGLIO_MAGIC_LOW ||
        WORD(header + INTAGLIO_AT_HEADER_MAGIC + 4) != INTAGLIO_MAGIC_HIGH)
        return INTAGLIO_NO_ARTIFACT;
    if (FIELD(header, HEADER_VERSION) != INTAGLIO_ARTIFACT_VERSION)
        return INTAGLIO_OTHER_FORMAT;
    if (intaglio_crc(0, header, INTAGLIO_AT_HEADER_CRC) != FIELD(header, HEADER_CRC))
        return INTAGLIO_DAMAGED;
    const uint32_t address_bits = FIELD(header, HEADER_ADDRESS_BITS);
    if (FIELD(header, HEADER_BYTES) < INTAGLIO_HEADER_BYTES || address_bits < 32 || address_bits > 64 ||
        FIELD(header, HEADER_FLAGS) > INTAGLIO_FLAG_LAYERS)
        return INTAGLIO_MALFORMED;
    return FIELD(header, HEADER_BYTES) > bytes ? INTAGLIO_CUT : INTAGLIO_OK;
}

intaglio_status intaglio_load(intaglio_program *program, intaglio_device *device, const void *artifact, size_t bytes)
{
    const uint8_t *header = artifact;
    uint32_t input_bytes, outputs;
    intaglio_status status = check_header(header, bytes);
    if (status)
        return status;
    if (device->running == program)
        return INTAGLIO_RUNNING;
    if (FIELD(header, HEADER_FINGERPRINT) != device->fingerprint)
        return INTAGLIO_OTHER_MACHINE;
    program->device = device;
    program->artifact = header;
    program->address_bits = FIELD(header, HEADER_ADDRESS_BITS);
    program->command_offset = FIELD(header, HEADER_COMMAND_OFFSET);
    program->command_count = FIELD(header, HEADER_COMMAND_COUNT);
    program->flags = FIELD(header, HEADER_FLAGS);
    program->ended = INTAGLIO_IDLE;
    for (uint32_t region = 0; region < INTAGLIO_REGIONS; region++)
        program->bound[region].bytes = 0;
    status = find_parts(program, FIELD(header, HEADER_BYTES));
    if (status)
        return status;
    if (!is_string(program, FIELD(header, HEADER_NAME)) || !is_string(program, FIELD(header, HEADER_CONFIG)) ||
        !is_string(program, FIELD(header, HEADER_PRODUCER)) || !regions_fit(program) ||
        !scales_fit(program) ||
        !tensors_fit(program, &input_bytes, &outputs) || !layers_fit(program) || !commands_fit(program) ||
        !tests_fit(program, header, input_bytes, outputs))
        return INTAGLIO_MALFORMED;
    return INTAGLIO_OK;
}

/* ---- What a program consists of ---- */

intaglio_status intaglio_get_region(const intaglio_program *program, uint32_t number, intaglio_region *region)
{
    if (number >= INTAGLIO_REGIONS)
        return INTAGLIO_NONE_SUCH;
    const uint8_t *entry = record(program, INTAGLIO_PART_REGIONS, number);
    region->rights = FIELD(entry, REGIONS_RIGHTS);
    region->bytes = FIELD(entry, REGIONS_BYTES);
    region->alignment = FIELD(entry, REGIONS_ALIGNMENT);
    region->contents = record(program, INTAGLIO_PART_CONTENTS, FIELD(entry, REGIONS_CONTENTS));
    region->contents_bytes = FIELD(entry, REGIONS_CONTENTS_BYTES);
    return INTAGLIO_OK;
}

/* The fields of intaglio_tensor behind its name are words in the order of the record's. */
#define TENSOR_WORDS ((INTAGLIO_BYTES_OF_TENSORS - INTAGLIO_AT_TENSORS_ROLE) / 4u)
typedef char tensors_are_alike[offsetof(intaglio_tensor, axis) - offsetof(intaglio_tensor, role) ==
                                       INTAGLIO_AT_TENSORS_AXIS - INTAGLIO_AT_TENSORS_ROLE &&
                                   INTAGLIO_AT_TENSORS_AXIS + 4u == INTAGLIO_BYTES_OF_TENSORS
                               ? 1
                               : -1];

static void words(const uint8_t *from, void *to, uint32_t count)
{
    for (uint32_t *word = to; count--; from += 4)
        *word++ = WORD(from);
}

intaglio_status intaglio_get_tensor(const intaglio_program *program, uint32_t index, intaglio_tensor *tensor)
{
    if (index >= program->count[INTAGLIO_PART_TENSORS])
        return INTAGLIO_NONE_SUCH;
    const uint8_t *entry = record(program, INTAGLIO_PART_TENSORS, index);
    tensor->name = string(program, FIELD(entry, TENSORS_NAME));
    words(entry + INTAGLIO_AT_TENSORS_ROLE, (uint8_t *)tensor + offsetof(intaglio_tensor, role), TENSOR_WORDS);
    return INTAGLIO_OK;
}

intaglio_status intaglio_get_layer(const intaglio_program *program, uint32_t index, intaglio_layer *layer)
{
    if (index >= program->count[INTAGLIO_PART_LAYERS])
        return INTAGLIO_NONE_SUCH;
    const uint8_t *entry = record(program, INTAGLIO_PART_LAYERS, index);
    layer->name = string(program, FIELD(entry, LAYERS_NAME));
    layer->op = string(program, FIELD(entry, LAYERS_OP));
    layer->mark = FIELD(entry, LAYERS_MARK);
    layer->macs = FIELD(entry, LAYERS_MACS) | (uint64_t)WORD(entry + INTAGLIO_AT_LAYERS_MACS + 4) << 32;
    layer->tensor = FIELD(entry, LAYERS_TENSOR);
    return INTAGLIO_OK;
}

uint8_t *intaglio_tensor_memory(const intaglio_program *program, const intaglio_tensor *tensor)
{
    const intaglio_memory *bound = &program->bound[tensor->region];
    return bound->bytes && bound->memory ? bound->memory + tensor->offset : NULL;
}

/* ---- Memory ---- */

/* Writes what a region holds before the first start. */
static void fill(const intaglio_program *program, uint32_t number)
{
    intaglio_region region;
    uint8_t *memory = program->bound[number].memory;
    if (intaglio_get_region(program, number, &region) || !memory)
        return;
    for (uint32_t place = 0; place < region.contents_bytes; place++)
        memory[place] = region.contents[place];
    clean(program, number);
}

static int overlap(const intaglio_memory *one, const intaglio_memory *other)
{
    /* Neither wraps, so that last addresses are not below first ones. */
    return one->address <= other->address + (other->bytes - 1u) && other->address <= one->address + (one->bytes - 1u);
}

intaglio_status intaglio_bind(intaglio_program *program, uint32_t number, void *memory, uint64_t address, uint32_t bytes)
{
    const uint32_t high = program->address_bits > 32 ? UINT32_MAX >> (64u - program->address_bits) : 0;
    const uint64_t last = (uint64_t)high << 32 | UINT32_MAX;
    const intaglio_memory wanted = {memory, address, bytes};
    intaglio_region region;
    if (intaglio_get_region(program, number, &region))
        return INTAGLIO_NONE_SUCH;
    if (program->device->running == program)
        return INTAGLIO_RUNNING;
    if (address & (region.alignment - 1u) || (uintptr_t)memory & (region.alignment - 1u))
        return INTAGLIO_MISALIGNED;
    if (bytes == 0 || bytes < region.bytes)
        return INTAGLIO_SHORT;
    if (address > last || bytes - 1u > last - address)
        return INTAGLIO_WRAPS;
    for (uint32_t other = 0; other < INTAGLIO_REGIONS; other++)
        if (other != number && program->bound[other].bytes && (RIGHTS[number] | RIGHTS[other]) & INTAGLIO_WRITES &&
            overlap(&wanted, &program->bound[other]))
            return INTAGLIO_OVERLAPS;
    program->bound[number] = wanted;
    fill(program, number);
    return INTAGLIO_OK;
}

intaglio_status intaglio_reset_state(intaglio_program *program)
{
    if (program->device->running == program)
        return INTAGLIO_RUNNING;
    intaglio_region region;
    if (!intaglio_get_region(program, INTAGLIO_REGION_STATE, &region) && region.bytes &&
        !(program->bound[INTAGLIO_REGION_STATE].bytes && program->bound[INTAGLIO_REGION_STATE].memory))
        return INTAGLIO_UNBOUND;
    fill(program, INTAGLIO_REGION_STATE);
    return INTAGLIO_OK;
}

/* ---- Runs ---- */

intaglio_status intaglio_start(intaglio_program *program)
{
    intaglio_device *device = program->device;
    intaglio_region region;
    if (device->running || read_register(device, INTAGLIO_REGISTER_STATUS) & INTAGLIO_STATUS_BUSY)
        return INTAGLIO_RUNNING;
    for (uint32_t number = 0; !intaglio_get_region(program, number, &region); number++) {
        const uint32_t registers = number * INTAGLIO_REGION_STRIDE;
        const uint64_t base = program->bound[number].bytes ? program->bound[number].address : 0;
        if (region.bytes && !program->bound[number].bytes)
            return INTAGLIO_UNBOUND;
        write_register(device, INTAGLIO_REGISTER_PROGRAM_BASE + registers, (uint32_t)base);
        write_register(device, INTAGLIO_REGISTER_PROGRAM_BASE_HIGH + registers, (uint32_t)(base >> 32));
        write_register(device, INTAGLIO_REGISTER_PROGRAM_LIMIT + registers, region.bytes);
    }
    clean(program, INTAGLIO_REGION_INPUT);
    /* A dirty line that is written back during the run would go over an output. */
    invalidate(program, INTAGLIO_REGION_OUTPUT);
    write_register(device, INTAGLIO_REGISTER_COMMAND_OFFSET, program->command_offset);
    write_register(device, INTAGLIO_REGISTER_COMMAND_COUNT, program->command_count);
    device->running = program;
    write_register(device, INTAGLIO_REGISTER_CONTROL, INTAGLIO_CONTROL_START);
    return INTAGLIO_OK;
}

intaglio_status intaglio_poll(intaglio_program *program)
{
    intaglio_device *device = program->device;
    if (device->running != program)
        return program->ended;
    const uint32_t status = read_register(device, INTAGLIO_REGISTER_STATUS);
    if (status & INTAGLIO_STATUS_BUSY)
        return INTAGLIO_RUNNING;
    device->running = NULL;
    invalidate(program, INTAGLIO_REGION_OUTPUT);
    if (status & INTAGLIO_STATUS_FAULT)
        program->ended = INTAGLIO_FAULT;
    else
        program->ended = status & INTAGLIO_STATUS_DONE ? INTAGLIO_OK : INTAGLIO_IDLE;
    return program->ended;
}

intaglio_status intaglio_wait(intaglio_program *program, uint32_t timeout)
{
    const intaglio_port *port = program->device->port;
    const uint32_t began = port->clock ? port->clock(port->context) : 0;
    for (uint32_t polls = 0;; polls++) {
        const intaglio_status status = intaglio_poll(program);
        if (status != INTAGLIO_RUNNING)
            return status;
        if ((port->clock ? port->clock(port->context) - began : polls) >= timeout)
            return INTAGLIO_TIMEOUT;
        if (port->pause)
            port->pause(port->context);
    }
}

void intaglio_abort(intaglio_program *program)
{
    if (program->device->running == program)
        write_register(program->device, INTAGLIO_REGISTER_CONTROL, INTAGLIO_CONTROL_ABORT);
}

void intaglio_result(const intaglio_program *program, uint32_t counters[INTAGLIO_COUNTERS])
{
    for (uint32_t index = 0; index < INTAGLIO_COUNTERS; index++)
        counters[index] =
            read_register(program->device, INTAGLIO_REGISTER_CYCLES + index * INTAGLIO_REGISTER_BYTES);
}

static uint32_t mark_of(const intaglio_program *program, uint32_t layer)
{
    return FIELD(record(program, INTAGLIO_PART_LAYERS, layer), LAYERS_MARK);
}

/* When a layer was complete. What follows the last stamp is the last layer's. */
static uint32_t end_of(const intaglio_program *program, uint32_t layer)
{
    const uint32_t mark = mark_of(program, layer);
    if (mark == mark_of(program, program->count[INTAGLIO_PART_LAYERS] - 1u))
        return read_register(program->device, INTAGLIO_REGISTER_CYCLES);
    if (mark == INTAGLIO_ABSENT)
        return 0;
    return read_register(program->device, INTAGLIO_REGISTER_MARKS + mark * INTAGLIO_REGISTER_BYTES);
}

intaglio_status intaglio_layer_cycles(const intaglio_program *program, uint32_t layer, uint32_t *cycles)
{
    if (layer >= program->count[INTAGLIO_PART_LAYERS])
        return INTAGLIO_NONE_SUCH;
    *cycles = end_of(program, layer) - (layer ? end_of(program, layer - 1u) : 0);
    return INTAGLIO_OK;
}

void intaglio_get_fault(const intaglio_program *program, intaglio_fault *fault)
{
    const intaglio_device *device = program->device;
    fault->cause = read_register(device, INTAGLIO_REGISTER_FAULT_CAUSE);
    fault->command = read_register(device, INTAGLIO_REGISTER_FAULT_COMMAND);
    fault->address = read_register(device, INTAGLIO_REGISTER_FAULT_ADDRESS);
    if (program->address_bits > 32)
        fault->address |= (uint64_t)read_register(device, INTAGLIO_REGISTER_FAULT_ADDRESS_HIGH) << 32;
    fault->owner = fault->command < program->command_count
                       ? string(program, WORD(record(program, INTAGLIO_PART_OWNERS, fault->command)))
                       : NULL;
}

/* ---- A fault in words ---- */

/* The digits of a number, which end before `end`; the first of them. */
static char *digits(char *end, uint64_t number, uint32_t base)
{
    *--end = 0;
    if (base == 16) {
        do
            *--end = "0123456789abcdef"[number & 15u];
        while (number >>= 4);
        return end;
    }
    uint32_t rest = (uint32_t)number; /* a count; 64 bits in base 10 would want a division of the library's */
    do
        *--end = (char)('0' + rest % 10u);
    while (rest /= 10u);
    return end;
}

size_t intaglio_fault_text(const intaglio_fault *fault, char *text, size_t bytes)
{
    /* One behind the other, in the order of their numbers; an empty one ends them. */
    static const char names[] =
#define NAME(name, number, meaning) #name "\0"
        INTAGLIO_CAUSES(NAME);
#undef NAME
    const char *name = names;
    for (uint32_t before = fault->cause; before && *name; before--)
        while (*name++)
            ;
    const int owned = fault->owner && *fault->owner, placed = fault->address != 0;
    char command[11], address[17];
    const char *const pieces[] = {
        *name ? name : "unknown cause",
        " at command ",
        digits(command + sizeof command, fault->command, 10),
        owned ? " (" : "",
        owned ? fault->owner : "",
        owned ? ")" : "",
        placed ? ", address 0x" : "",
        placed ? digits(address + sizeof address, fault->address, 16) : "",
    };
    size_t length = 0;
    for (uint32_t piece = 0; piece < sizeof pieces / sizeof pieces[0]; piece++)
        for (const char *from = pieces[piece]; *from; from++, length++)
            if (length + 1 < bytes)
                text[length] = *from;
    if (bytes)
        text[length < bytes ? length : bytes - 1] = 0;
    return length;
}
