/* Values of a tensor: packing, quantization. See intaglio.h. */
#include "intaglio.h"

#define SINGLE_INFINITY 0x7f800000u

static float single(uint32_t bits)
{
    union {
        uint32_t bits;
        float value;
    } both = {bits};
    return both.value;
}

static int is_finite(float value)
{
    union {
        float value;
        uint32_t bits;
    } both = {value};
    return (both.bits & SINGLE_INFINITY) != SINGLE_INFINITY;
}

static int64_t least(const intaglio_tensor *tensor)
{
    return tensor->kind == INTAGLIO_KIND_SIGNED ? -((int64_t)1 << (tensor->bits - 1u)) : 0;
}

static int64_t greatest(const intaglio_tensor *tensor)
{
    return ((int64_t)1 << (tensor->bits - (tensor->kind == INTAGLIO_KIND_SIGNED))) - 1;
}

static int has(const intaglio_tensor *tensor, uint32_t first, uint32_t count)
{
    return first <= tensor->elements && count <= tensor->elements - first;
}

/* Values are whole parts of bytes or whole bytes: element_bits divides 8. Bits of a tensor count from bit 0 of byte 0. */
static void put(const intaglio_tensor *tensor, uint8_t *bytes, uint32_t index, int64_t value)
{
    const uint32_t step = tensor->element_bits, mask = (1u << step) - 1u;
    uint64_t place = (uint64_t)index * tensor->digits * step;
    uint64_t rest = (uint64_t)value; /* the sign goes on into the elements that the type does not fill */
    for (uint32_t digit = 0; digit < tensor->digits; digit++, place += step, rest >>= step) {
        uint8_t *byte = bytes + (size_t)(place / 8u);
        const uint32_t shift = (uint32_t)(place % 8u);
        *byte = (uint8_t)((*byte & ~(mask << shift)) | ((uint32_t)rest & mask) << shift);
    }
}

static int64_t get(const intaglio_tensor *tensor, const uint8_t *bytes, uint32_t index)
{
    const uint32_t step = tensor->element_bits, width = tensor->digits * step;
    uint64_t place = (uint64_t)index * width;
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < width; shift += step, place += step) {
        const uint32_t element = (uint32_t)bytes[(size_t)(place / 8u)] >> place % 8u & ((1u << step) - 1u);
        value |= (uint64_t)element << shift;
    }
    if (tensor->kind == INTAGLIO_KIND_SIGNED && value >> (width - 1u))
        return (int64_t)value - ((int64_t)1 << width);
    return (int64_t)value;
}

uint32_t intaglio_dimension(const intaglio_program *program, const intaglio_tensor *tensor, uint32_t number)
{
    const uint8_t *dimensions = program->artifact + program->offset[INTAGLIO_PART_DIMENSIONS];
    return number < tensor->rank ? intaglio_word(dimensions + (size_t)(tensor->shape + number) * 4u) : 0;
}

/* Scale and zero point of the channel that an element is of. */
static const uint8_t *scale_of(const intaglio_program *program, const intaglio_tensor *tensor, uint32_t index)
{
    uint32_t channel = 0;
    if (tensor->scales > 1) {
        for (uint32_t axis = tensor->rank - 1u; axis > tensor->axis; axis--)
            index /= intaglio_dimension(program, tensor, axis);
        channel = index % tensor->scales;
    }
    return program->artifact + program->offset[INTAGLIO_PART_SCALES] +
           (size_t)(tensor->scale + channel) * INTAGLIO_BYTES_OF_SCALES;
}

static int32_t zero_point_of(const uint8_t *scale)
{
    const uint32_t word = intaglio_word(scale + INTAGLIO_AT_SCALES_ZERO_POINT);
    return (int32_t)((int64_t)word - (word >> 31 ? (int64_t)1 << 32 : 0));
}

/* Ties away from zero; beyond what a type of 32 bits holds, whatever is further out than that. */
static int64_t rounded(float quotient)
{
    const float beyond = 8589934592.0f; /* 2**33 */
    if (quotient >= beyond)
        return (int64_t)1 << 33;
    if (quotient <= -beyond)
        return -((int64_t)1 << 33);
    const int64_t whole = (int64_t)quotient;
    const float rest = quotient - (float)whole; /* exact: a number that has a fraction is below 2**24 */
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

intaglio_status intaglio_write_floats(const intaglio_program *program, const intaglio_tensor *tensor, uint8_t *bytes,
                                      uint32_t first, uint32_t count, const float *values)
{
    if (!has(tensor, first, count))
        return INTAGLIO_NONE_SUCH;
    if (!tensor->scales)
        return INTAGLIO_NO_SCALE;
    for (uint32_t place = 0; place < count; place++) {
        if (!is_finite(values[place]))
            return INTAGLIO_NOT_FINITE;
        const uint8_t *scale = scale_of(program, tensor, first + place);
        const float quotient = values[place] / single(intaglio_word(scale + INTAGLIO_AT_SCALES_SCALE));
        int64_t value = rounded(quotient) + zero_point_of(scale);
        if (value < least(tensor))
            value = least(tensor);
        if (value > greatest(tensor))
            value = greatest(tensor);
        put(tensor, bytes, first + place, value);
    }
    return INTAGLIO_OK;
}

intaglio_status intaglio_read_floats(const intaglio_program *program, const intaglio_tensor *tensor, const uint8_t *bytes,
                                     uint32_t first, uint32_t count, float *values)
{
    if (!has(tensor, first, count))
        return INTAGLIO_NONE_SUCH;
    if (!tensor->scales)
        return INTAGLIO_NO_SCALE;
    for (uint32_t place = 0; place < count; place++) {
        const uint8_t *scale = scale_of(program, tensor, first + place);
        const int64_t difference = get(tensor, bytes, first + place) - zero_point_of(scale);
        values[place] = single(intaglio_word(scale + INTAGLIO_AT_SCALES_SCALE)) * (float)difference;
    }
    return INTAGLIO_OK;
}

intaglio_status intaglio_write_pixels(const intaglio_program *program, const intaglio_tensor *tensor, uint8_t *bytes,
                                      uint32_t first, uint32_t count, const uint8_t *values)
{
    const int shifted = tensor->kind == INTAGLIO_KIND_SIGNED && tensor->bits == 8 && tensor->scales == 1 &&
                        zero_point_of(scale_of(program, tensor, 0)) == -128;
    if (!has(tensor, first, count))
        return INTAGLIO_NONE_SUCH;
    for (uint32_t place = 0; place < count; place++) {
        const int64_t value = shifted ? values[place] - 128 : values[place];
        if (value > greatest(tensor))
            return INTAGLIO_OUT_OF_RANGE;
        put(tensor, bytes, first + place, value);
    }
    return INTAGLIO_OK;
}

intaglio_status intaglio_write_integers(const intaglio_tensor *tensor, uint8_t *bytes, uint32_t first, uint32_t count,
                                        const int64_t *values)
{
    if (!has(tensor, first, count))
        return INTAGLIO_NONE_SUCH;
    for (uint32_t place = 0; place < count; place++) {
        if (values[place] < least(tensor) || values[place] > greatest(tensor))
            return INTAGLIO_OUT_OF_RANGE;
        put(tensor, bytes, first + place, values[place]);
    }
    return INTAGLIO_OK;
}

intaglio_status intaglio_read_integers(const intaglio_tensor *tensor, const uint8_t *bytes, uint32_t first, uint32_t count,
                                       int64_t *values)
{
    if (!has(tensor, first, count))
        return INTAGLIO_NONE_SUCH;
    for (uint32_t place = 0; place < count; place++)
        values[place] = get(tensor, bytes, first + place);
    return INTAGLIO_OK;
}
