"""The configuration of an accelerator, in plain Python: what the machine, the compiler and the user agree on."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from intaglio.spec.commands import COMMAND_BYTES, SOFTMAX_PLANES, TABLE_ENTRIES
from intaglio.spec.fingerprint import fingerprint_of
from intaglio.spec.limits import REGISTER_BITS, RESULT_BITS
from intaglio.spec.operand import OperandType
from intaglio.spec.records import RECORD_SCHEMES, most_accumulator_bits, record_bits

CONFIG_DIR = Path(__file__).parent / "configs"
RESCALES = RECORD_SCHEMES
"""Rescale schemes that the machine can be configured with."""
ELEMENT_BITS = (2, 4, 8)
WEIGHT_TYPES = ("int8", "int4", "int2", "ternary", "binary")
RANGES = {
    "rows": (1, 64),
    "columns": (1, 64),
    "accumulator_bits": (8, 48),
    "accumulator_depth": (16, 4096),
    "scratchpad_bytes": (1 << 10, 1 << 20),
    "weight_buffer_bytes": (1 << 9, 1 << 16),
    "line_buffer_rows": (0, 3),
    "line_buffer_columns": (16, 1024),
    "bus_bits": (64, 128),
    "scratchpad_lanes": (0, 128),
    "lane_digits": (1, 4),
    "address_bits": (REGISTER_BITS, 2 * REGISTER_BITS),
}
"""Least and greatest value of each field that has such limits whatever the other fields say."""
POWERS_OF_TWO = (
    "accumulator_depth",
    "scratchpad_bytes",
    "weight_buffer_bytes",
    "line_buffer_columns",
    "bus_bits",
    "scratchpad_lanes",
    "lane_digits",
)


def _ceil_power_of_two(value: int) -> int:
    return 1 << max(value - 1, 0).bit_length()


def _either(choices: Sequence[object]) -> str:
    """``a, b or c``."""
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last


@dataclass(frozen=True)
class AcceleratorConfig:
    """One machine. Raises TypeError or ValueError naming the field, its value and what it may be.

    Parameters
    ----------
    name : str
        What reports call it; no part of the hardware.
    rows : int
        Reduction lanes of the array, 1...64: products that one column adds in a cycle.
    columns : int
        Output channels that the array works on at a time, 1...64.
    activation_types : tuple of str
        ``("uint4",)``, ``("int8",)`` or both signednesses of one width, ``("uint4", "int4")``; 2, 4 or 8 bits.
        Wider activations are run as digits of this width (`docs/architecture.md`).
    weight_type : str
        ``"int8"``, ``"int4"``, ``"int2"``, ``"ternary"`` or ``"binary"``.
    accumulator_bits : int
        8...48; sums are taken modulo ``2**accumulator_bits``.
    accumulator_depth : int
        Output positions in each of the two accumulator banks, a power of two, 16...4096.
    rescales : tuple of str
        Rescale schemes that the machine carries.
    rescale_lanes : int
        Channels that the rescale works on in a cycle: `columns`, or a divisor of it that is a multiple of
        ``bus_bits / gcd(record_bits, bus_bits)``, so that their records fill whole beats of the bus.
    scratchpad_bytes : int
        Activations on chip, a power of two, 1 KiB...1 MiB.
    weight_buffer_bytes : int
        Prefetched weights, a power of two, 512 B...64 KiB.
    depthwise_taps : int
        Neighbours along a row that a depthwise pass multiplies at once, 0 (no depthwise mapping)...`rows`.
    line_buffer_rows : int
        Rows of vectors before a vector's own that a pass can multiply together with it, 0 (no line buffer)...3.
        A depthwise pass then takes `depthwise_taps` of each, ``(line_buffer_rows + 1) * depthwise_taps <= rows``.
    line_buffer_columns : int
        Vectors of such a row, a power of two, 16...1024.
    lane_digits : int
        Digits of an unsigned activation wider than an element that the array can take side by side, in one pass; a
        power of two that divides `rows`, 1...``8 / element_bits``.
    bus_bits : int
        Data bits of the AXI4 master, 64 or 128.
    scratchpad_lanes : int
        Elements that the scratchpad reads or writes at once, a power of two up to 128, and no fewer than a vector of
        the array, a beat or the rescale's results take; 0: as many as these. More serve sums of two operands.
    address_bits : int
        Bits of an address of the AXI4 master, 32...64.
    """

    name: str
    rows: int
    columns: int
    activation_types: tuple[str, ...]
    weight_type: str
    accumulator_bits: int
    accumulator_depth: int
    rescales: tuple[str, ...]
    rescale_lanes: int
    scratchpad_bytes: int
    weight_buffer_bytes: int
    depthwise_taps: int = 0
    line_buffer_rows: int = 0
    line_buffer_columns: int = 128
    lane_digits: int = 1
    bus_bits: int = 64
    scratchpad_lanes: int = 0
    address_bits: int = 32

    def __post_init__(self) -> None:
        self._check_types()
        for name, (low, high) in RANGES.items():
            self._check_between(name, low, high)
        for name in POWERS_OF_TWO:
            value = getattr(self, name)
            if value & (value - 1):
                low, high = RANGES[name]
                raise ValueError(f"`{name}` must be a power of two between {low} and {high}, not {value}")
        self._check_operands()
        self._check_rescales()
        self._check_between("depthwise_taps", 0, self.rows // (self.line_buffer_rows + 1))
        self._check_lanes()
        self._check_lane_digits()
        if 0 < self.scratchpad_lanes < (least := self._least_vector_lanes):
            raise ValueError(
                f"`scratchpad_lanes` must be 0 or at least {least}, which the array, a beat or the rescale takes, "
                f"not {self.scratchpad_lanes}"
            )
        tile_bytes = self.tile_beats * self.bus_bytes
        if 2 * tile_bytes > self.weight_buffer_bytes:
            raise ValueError(
                f"`weight_buffer_bytes` must hold two tiles of {tile_bytes} bytes, not {self.weight_buffer_bytes}"
            )

    def _check_types(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, int) or isinstance(value, bool)):
                raise TypeError(f"`{field.name}` must be an integer, not {value!r}")
            if field.type == "str" and (not isinstance(value, str) or not value):
                raise TypeError(f"`{field.name}` must be a non-empty string, not {value!r}")
            if field.type.startswith("tuple") and (
                not isinstance(value, tuple) or not value or not all(isinstance(item, str) for item in value)
            ):
                raise TypeError(f"`{field.name}` must be a non-empty list of strings, not {value!r}")

    def _check_between(self, name: str, low: int, high: int) -> None:
        if not low <= getattr(self, name) <= high:
            raise ValueError(f"`{name}` must be between {low} and {high}, not {getattr(self, name)}")

    def _check_operands(self) -> None:
        types = sorted(self.activation_types)
        if types not in [
            allowed
            for bits in ELEMENT_BITS
            for allowed in ([f"int{bits}"], [f"uint{bits}"], [f"int{bits}", f"uint{bits}"])
        ]:
            raise ValueError(
                "`activation_types` must be int2, int4 or int8, or uint2, uint4 or uint8, or both of one width, "
                f"not {', '.join(self.activation_types)}"
            )
        if self.weight_type not in WEIGHT_TYPES:
            raise ValueError(f"`weight_type` must be {_either(WEIGHT_TYPES)}, not {self.weight_type}")

    def _check_rescales(self) -> None:
        for scheme in self.rescales:
            if scheme not in RESCALES:
                raise ValueError(f"`rescales` must be some of {', '.join(RESCALES)}, not {scheme}")
            if self.rescales.count(scheme) > 1:
                raise ValueError(f"`rescales` must name each scheme once, not {scheme} twice")
            if self.accumulator_bits > (most := most_accumulator_bits(scheme)):
                raise ValueError(
                    f"`accumulator_bits` must be at most {most} where `rescales` has {scheme}, "
                    f"not {self.accumulator_bits}"
                )
        if self.affine and self.activation_types != ("int8",):
            raise ValueError(
                "`activation_types` must be int8 alone where `rescales` has affine, "
                f"not {', '.join(self.activation_types)}"
            )

    def _check_lanes(self) -> None:
        allowed = [
            lanes
            for lanes in range(1, self.columns + 1)
            if self.columns % lanes == 0
            and (lanes == self.columns or lanes * self.record_bits % self.bus_bits == 0)
        ]
        if self.rescale_lanes not in allowed:
            raise ValueError(
                f"`rescale_lanes` must be {_either(allowed)} (`columns`, or a divisor of it whose records of "
                f"{self.record_bits} bits fill whole beats of {self.bus_bits}), not {self.rescale_lanes}"
            )

    def _check_lane_digits(self) -> None:
        digits = self.lane_digits
        wanted = [
            (digits * self.element_bits <= RESULT_BITS, f"at most {RESULT_BITS // self.element_bits}"),
            (self.rows % digits == 0, f"a divisor of `rows`, {self.rows}"),
            (self.unsigned_activations, "1 where `activation_types` has no unsigned one"),
            (not self.weight.is_binary, "1 where `weight_type` is binary"),
        ]
        for holds, allowed in wanted:
            if digits > 1 and not holds:
                raise ValueError(f"`lane_digits` must be {allowed}, not {digits}")

    @property
    def bus_bytes(self) -> int:
        """Bytes of a beat of the AXI4 master."""
        return self.bus_bits // 8

    @property
    def command_beats(self) -> int:
        """Beats of the bus that a command takes."""
        return COMMAND_BYTES // self.bus_bytes

    @property
    def weight(self) -> OperandType:
        return OperandType(self.weight_type)

    @property
    def element_bits(self) -> int:
        """Width of one activation in the scratchpad and in memory."""
        return OperandType(self.activation_types[0]).bits

    @property
    def signed_activations(self) -> bool:
        return any(OperandType(name).signed for name in self.activation_types)

    @property
    def unsigned_activations(self) -> bool:
        return any(not OperandType(name).signed for name in self.activation_types)

    @property
    def operand(self) -> OperandType:
        """What one row of the array takes: one bit wider where activations come in unsigned *and* signed."""
        both = self.signed_activations and self.unsigned_activations
        return OperandType(f"int{self.element_bits + 1}" if both else self.activation_types[0])

    @property
    def beat_elements(self) -> int:
        """Elements in one beat of the bus."""
        return self.bus_bits // self.element_bits

    @property
    def vector_lanes(self) -> int:
        """Elements that the scratchpad reads or writes at once, at any element address."""
        return self.scratchpad_lanes or self._least_vector_lanes

    @property
    def _least_vector_lanes(self) -> int:
        written = self.rescale_lanes * self.result_elements
        return _ceil_power_of_two(max(self.operand_lanes, written, self.beat_elements))

    @property
    def result_elements(self) -> int:
        """Elements of the widest result of a rescale: LLSQ's go up to RESULT_BITS, the others' are elements."""
        return RESULT_BITS // self.element_bits if "llsq" in self.rescales else 1

    @property
    def activation_digits(self) -> bool:
        """Whether activations wider than an element can be run in digits, of which all but the first are unsigned."""
        return self.unsigned_activations

    def digits_together(self, digits: int, signed: bool) -> bool:
        """Whether so many digits of an activation are taken side by side, in one pass. Then all are unsigned."""
        return 1 < digits <= self.lane_digits and digits & (digits - 1) == 0 and not signed

    @property
    def weight_digits(self) -> bool:
        """Whether weights wider than the array's can be run in digits."""
        return self.weight.bits < RESULT_BITS

    @property
    def weight_digit_bits(self) -> int:
        """Bits of such a weight that one pass takes."""
        return max(self.weight.bits - 1, 1)

    @property
    def operand_lanes(self) -> int:
        """Elements of a vector that the array takes: its rows; in a depthwise pass a channel a column."""
        return max(self.rows, self.columns if self.depthwise_taps else 0)

    @property
    def line_buffer_bits(self) -> int:
        """Bits of the rows of vectors, as the array takes them, that the line buffer keeps."""
        vector_bits = self.operand_lanes * self.operand.bits
        return self.line_buffer_rows * self.line_buffer_columns * vector_bits

    @property
    def scratchpad_elements(self) -> int:
        return self.scratchpad_bytes * 8 // self.element_bits

    @property
    def tile_beats(self) -> int:
        """Beats of the weight stream that hold one rows x columns tile, the longest."""
        return -(-self.rows * self.columns * self.weight.bits // self.bus_bits)

    @property
    def affine(self) -> bool:
        """Whether it rescales affine networks; then it has the elementwise engine, too."""
        return "affine" in self.rescales

    @property
    def record_bits(self) -> int:
        """Width of a channel's rescale parameters in the weight stream."""
        return record_bits(self.rescales, self.accumulator_bits)

    @property
    def parameter_beats(self) -> int:
        """Beats of the weight stream that hold the parameters of one group of `columns` channels."""
        return -(-self.columns * self.record_bits // self.bus_bits)

    @property
    def slot_beats(self) -> int:
        """Beats of the weight stream that hold the parameters of `rescale_lanes` channels."""
        return -(-self.parameter_beats * self.rescale_lanes // self.columns)

    @property
    def weight_bits(self) -> int:
        """Width of the path from the weight buffer to the array: as many beats at once, up to four, as tiles and
        parameters are whole multiples of."""
        return self.bus_bits * math.gcd(4, self.tile_beats, self.slot_beats)

    def tile_words(self, columns: int) -> int:
        """Words of `weight_bits` of the weight stream that hold a tile of so many columns."""
        return -(-columns * self.rows * self.weight.bits // self.weight_bits)

    @property
    def on_chip_bytes(self) -> dict[str, int]:
        """Every storage of the machine that is a memory, in bytes."""
        return {
            "scratchpad": self.scratchpad_bytes,
            "accumulators": -(-2 * self.accumulator_depth * self.columns * self.accumulator_bits // 8),
            "weight buffer": self.weight_buffer_bytes,
            "rescale parameters": 2 * self.columns // self.rescale_lanes * self.slot_beats * self.bus_bytes,
            "tables": SOFTMAX_PLANES * TABLE_ENTRIES if self.affine else 0,
            "line buffer": -(-self.line_buffer_bits // 8),
        }

    @property
    def step_lanes(self) -> int:
        """Elements that the elementwise engine takes in a step: of the rescale's lanes a power of two, so that a
        vector is whole steps."""
        return 1 << (self.rescale_lanes.bit_length() - 1)

    @property
    def fingerprint(self) -> int:
        """32 bits that tell two different machines apart; a register holds it, a program names it."""
        return fingerprint_of(
            {key: value for key, value in dataclasses.asdict(self).items() if key != "name"}
        )

    @classmethod
    def names(cls) -> list[str]:
        """The configurations that ship."""
        return sorted(path.stem for path in CONFIG_DIR.glob("*.toml"))

    @classmethod
    def load(cls, name_or_path: str | Path) -> AcceleratorConfig:
        """The configuration that ships under a name, or that a TOML file holds.

        Raises ValueError or TypeError, in one line, if there is none or it is not valid.
        """
        path = CONFIG_DIR / f"{name_or_path}.toml"
        if str(name_or_path) not in cls.names():
            path = Path(name_or_path)
            if not path.is_file():
                raise ValueError(
                    f"no configuration {name_or_path}: name a TOML file or one of {', '.join(cls.names())}"
                )
        try:
            fields = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: not a TOML file: {error}") from None
        fields = {"name": path.stem} | {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ValueError(
                f"{path}: unknown field `{unknown[0]}`; a configuration has {', '.join(sorted(known))}"
            )
        required = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
        if missing := sorted(required - set(fields)):
            raise ValueError(f"{path}: field `{missing[0]}` is missing")
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{path}: {error}") from None
