/* The artifact's own tests. See intaglio.h. */
#include "intaglio.h"

/* Of the tables of tensors and tests. Tensors are in the order of their roles: inputs, outputs, others. */
typedef struct {
    uint32_t inputs, outputs; /* tensors */
    uint32_t input_bytes;     /* of a test: of each input, whole words */
} layout;

static uint32_t whole_words(uint32_t bytes)
{
    return bytes + (0u - bytes) % 4u;
}

static layout layout_of(const intaglio_program *program)
{
    layout found = {0, 0, 0};
    intaglio_tensor tensor;
    for (uint32_t index = 0; !intaglio_get_tensor(program, index, &tensor); index++) {
        found.inputs += tensor.role == INTAGLIO_ROLE_INPUT;
        found.outputs += tensor.role == INTAGLIO_ROLE_OUTPUT;
        if (tensor.role == INTAGLIO_ROLE_INPUT)
            found.input_bytes += whole_words(tensor.bytes);
    }
    return found;
}

uint32_t intaglio_tensor_crc(const intaglio_tensor *tensor, const uint8_t *bytes)
{
    const uint32_t used = (uint32_t)((uint64_t)tensor->elements * (tensor->digits * tensor->element_bits) % 8u);
    if (!used)
        return intaglio_crc(0, bytes, tensor->bytes);
    const uint8_t last = (uint8_t)(bytes[tensor->bytes - 1u] & ((1u << used) - 1u));
    return intaglio_crc(intaglio_crc(0, bytes, tensor->bytes - 1u), &last, 1);
}

/* Writes a test's inputs; UNBOUND where the processor does not see their memory. */
static intaglio_status give(const intaglio_program *program, uint32_t inputs, const uint8_t *from)
{
    intaglio_tensor tensor;
    for (uint32_t index = 0; index < inputs && !intaglio_get_tensor(program, index, &tensor); index++) {
        uint8_t *memory = intaglio_tensor_memory(program, &tensor);
        if (!memory)
            return INTAGLIO_UNBOUND;
        for (uint32_t place = 0; place < tensor.bytes; place++)
            memory[place] = from[place];
        from += whole_words(tensor.bytes);
    }
    return INTAGLIO_OK;
}

static intaglio_status compare(const intaglio_program *program, uint32_t index, const uint8_t *crc, intaglio_report *report)
{
    intaglio_tensor tensor;
    const intaglio_status status = intaglio_get_tensor(program, index, &tensor);
    const uint8_t *memory = status ? NULL : intaglio_tensor_memory(program, &tensor);
    if (!memory)
        return status ? status : INTAGLIO_UNBOUND;
    report->expected = intaglio_word(crc);
    report->found = intaglio_tensor_crc(&tensor, memory);
    if (report->found != report->expected)
        return INTAGLIO_DIFFERS;
    report->equal++;
    return INTAGLIO_OK;
}

/* Layers in their order, so that the first that differs is named; then outputs. */
static intaglio_status compare_all(const intaglio_program *program, const layout *is, const uint8_t *crcs,
                                   intaglio_report *report)
{
    intaglio_status status = INTAGLIO_OK;
    intaglio_layer layer;
    report->output = INTAGLIO_ABSENT;
    for (report->layer = 0; !intaglio_get_layer(program, report->layer, &layer); report->layer++) {
        if (layer.tensor != INTAGLIO_ABSENT)
            status = compare(program, layer.tensor, crcs + (size_t)(is->outputs + report->layer) * 4u, report);
        if (status)
            return status;
    }
    report->layer = INTAGLIO_ABSENT;
    for (report->output = 0; report->output < is->outputs; report->output++) {
        status = compare(program, is->inputs + report->output, crcs + (size_t)report->output * 4u, report);
        if (status)
            return status;
    }
    report->output = INTAGLIO_ABSENT;
    return INTAGLIO_OK;
}

static intaglio_status run(intaglio_program *program, const layout *is, uint32_t test, uint32_t timeout)
{
    const uint8_t *inputs = program->artifact + program->offset[INTAGLIO_PART_TEST_INPUTS];
    intaglio_status status = intaglio_poll(program);
    if (status == INTAGLIO_RUNNING)
        return status;
    status = give(program, is->inputs, inputs + (size_t)test * is->input_bytes);
    if (!status)
        status = intaglio_start(program);
    return status ? status : intaglio_wait(program, timeout);
}

intaglio_status intaglio_self_test(intaglio_program *program, uint32_t timeout, intaglio_report *report)
{
    const layout is = layout_of(program);
    const uint32_t tests = program->count[INTAGLIO_PART_TEST_INPUTS];
    const size_t crc_bytes = ((size_t)is.outputs + program->count[INTAGLIO_PART_LAYERS]) * 4u;
    const uint8_t *crcs = program->artifact + program->offset[INTAGLIO_PART_TEST_CRCS];
    report->tests = report->equal = report->expected = report->found = 0;
    report->output = report->layer = INTAGLIO_ABSENT;
    for (report->test = 0; report->test < tests; report->test++, crcs += crc_bytes) {
        intaglio_status status = run(program, &is, report->test, timeout);
        report->tests++;
        if (!status)
            status = compare_all(program, &is, crcs, report);
        if (status)
            return status;
    }
    return tests ? INTAGLIO_OK : INTAGLIO_NONE_SUCH;
}
