/* Words and checksums of an artifact. See intaglio.h. */
#include "intaglio.h"

uint32_t intaglio_word(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

uint32_t intaglio_crc(uint32_t before, const uint8_t *data, uint32_t bytes)
{
    uint32_t crc = ~before;
    while (bytes--) {
        crc ^= *data++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (INTAGLIO_CRC_POLYNOMIAL & (0u - (crc & 1u)));
    }
    return ~crc;
}
