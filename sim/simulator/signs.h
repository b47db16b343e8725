// Sign extension of words, quicker than Verilator's: two shifts, which compilers know, and no constant of a sign's place.
// For what Verilator writes alone, after its own headers.

#pragma once

#include "verilated.h"

static inline IData sign_extended(int bits, IData value) {
    return static_cast<IData>(static_cast<int32_t>(value << (32 - bits)) >> (32 - bits));
}

#define VL_EXTENDS_II(to_bits, bits, value) sign_extended(bits, value)
#define VL_MULS_III(bits, left, right) (sign_extended(bits, left) * sign_extended(bits, right))
