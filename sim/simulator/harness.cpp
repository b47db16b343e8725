// The Verilated machine with a memory behind it, as a shared library for Python (ctypes).
//
// The memory: one AXI4 port; R and W each move a beat a cycle, LATENCY cycles from an address to its first data
// and from the last data to B, at most 8 bursts in flight each way, answers in order. It lies in stretches wherever it is
// told; a burst that is not inside one answers DECERR. The library owns the clock, so that nothing of Python runs in a cycle.
//
// Probes: a copy of the scratchpad is kept from what the machine writes, and a tensor is taken from it when the command
// that completes it does. That reads ports which the machine has for this, and changes no cycle.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vmachine.h"
#include "intaglio_spec.h"
#include "verilated.h"
#ifdef TRACE
#include "verilated_fst_c.h"
#endif

namespace {

using spec::ENGINES;

constexpr size_t BURSTS_IN_FLIGHT = 8;
constexpr int REGISTER_TIMEOUT_CYCLES = 1000;
constexpr int OKAY = 0;
constexpr int DECERR = 3;
constexpr uint8_t NEVER_WRITTEN = 0xa5;
constexpr uint32_t PAGE_BYTES = 4096;  // no burst crosses a multiple of it
constexpr int INCREMENTING = 1;
constexpr size_t MASK_BYTES = sizeof(Vmachine::probe_write_mask);
constexpr size_t DATA_BYTES = sizeof(Vmachine::probe_write_data);

// Of a beat: Verilator holds it as one word or as an array of them, with the lowest byte first, as memory does.
constexpr uint32_t BEAT_BYTES = sizeof(Vmachine::m_axi_rdata);
constexpr int BEAT_SIZE = BEAT_BYTES == 8 ? 3 : 4;  // as AxSIZE says it [AXI: A3.4.1]
static_assert(BEAT_BYTES == 8 || BEAT_BYTES == 16, "buses that machines have");

struct Burst {
    uint64_t due;  // cycle of the first data
    uint8_t* bytes;  // none where no memory answers
    uint32_t beats;
};

struct Stretch {
    uint64_t base;
    std::vector<uint8_t> bytes;
};

struct Response {
    uint64_t due;
    int code;
};

struct Probe {
    uint64_t sequence;  // commands that its engine has completed by then
    uint32_t address;   // in elements
    uint32_t elements;
    uint64_t offset;  // in the output, one byte an element
};

class Harness {
public:
    Harness(uint32_t latency, uint32_t scratchpad_elements, uint32_t lanes, uint32_t element_bits)
        : latency(latency), lanes(lanes), element_bits(element_bits), scratchpad(scratchpad_elements) {
#ifdef TRACE
        context.traceEverOn(true);
#endif
        top = std::make_unique<Vmachine>(&context);
        reset(4);
    }

    ~Harness() { top->final(); }

    void reset(int count) {
        top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_arvalid = 0;
        top->s_axil_bready = top->s_axil_rready = 0;
        // Nothing is valid while reset is asserted [AXI: A3.1.2].
        reads.clear();
        writes.clear();
        responses.clear();
        read_beat = write_beat = 0;
        top->rst = 1;
        for (int i = 0; i < count; i++) cycle();
        top->rst = 0;
    }

    // Memory from an address on; its bytes stay where they are.
    uint8_t* add_memory(uint64_t base, uint64_t size) {
        memory.push_back({base, std::vector<uint8_t>(size)});
        return memory.back().bytes.data();
    }

    bool write_register(uint32_t address, uint32_t value) {
        top->s_axil_awaddr = address;
        top->s_axil_wdata = value;
        top->s_axil_wstrb = 0xf;
        top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_bready = 1;
        for (int i = 0; i < REGISTER_TIMEOUT_CYCLES; i++) {
            settle();
            bool address_taken = top->s_axil_awvalid && top->s_axil_awready;
            bool data_taken = top->s_axil_wvalid && top->s_axil_wready;
            bool answered = top->s_axil_bvalid;
            edge();
            if (address_taken) top->s_axil_awvalid = 0;
            if (data_taken) {
                top->s_axil_wvalid = 0;
                written_cycle = cycles;
            }
            if (answered) {
                top->s_axil_bready = 0;
                return true;
            }
        }
        return false;
    }

    bool read_register(uint32_t address, uint32_t* value) {
        top->s_axil_araddr = address;
        top->s_axil_arvalid = top->s_axil_rready = 1;
        for (int i = 0; i < REGISTER_TIMEOUT_CYCLES; i++) {
            settle();
            bool taken = top->s_axil_arvalid && top->s_axil_arready;
            bool answered = top->s_axil_rvalid;
            *value = top->s_axil_rdata;
            edge();
            if (taken) top->s_axil_arvalid = 0;
            if (answered) {
                top->s_axil_rready = 0;
                return true;
            }
        }
        return false;
    }

    // Before a start: forgets what was on chip; probes go to `output`.
    void arm(uint8_t* output) {
        armed = true;
        probe_output = output;
        std::memset(next_probe, 0, sizeof next_probe);
        std::memset(completed, 0, sizeof completed);
        std::fill(scratchpad.begin(), scratchpad.end(), NEVER_WRITTEN);
        taken = 0;
        bus_error = "";
    }

    // Runs until the interrupt, and says whether it came within `limit` cycles; may be called again if not.
    bool run(uint64_t limit) {
        for (uint64_t count = 0; count < limit; count++) {
            if (top->irq) return true;
            cycle();
        }
        return top->irq;
    }

    // Nothing is taken until the next `arm`: the output that it names has room for this probe, too.
    void add_probe(int engine, const Probe& probe) {
        armed = false;
        auto place = std::upper_bound(probes[engine].begin(), probes[engine].end(), probe,
                                      [](const Probe& a, const Probe& b) { return a.sequence < b.sequence; });
        probes[engine].insert(place, probe);
    }

    // Whether this library can trace.
    bool trace([[maybe_unused]] const char* path) {
#ifdef TRACE
        fst = std::make_unique<VerilatedFstC>();
        top->trace(fst.get(), 99);
        fst->open(path);
        return fst->isOpen();
#else
        return false;
#endif
    }

    void close_trace() {
#ifdef TRACE
        if (fst) fst->close();
        fst.reset();
#endif
    }

    uint64_t completed_by(int engine) const { return completed[engine]; }

    uint64_t cycles = 0;
    uint64_t written_cycle = 0;  // in which the machine took the last write of a register
    uint64_t taken = 0;          // probes since the last `arm`
    const char* bus_error = "";

private:
    void cycle() {
        settle();
        edge();
    }

    // What the memory drives in this cycle, and what the machine answers to it.
    void settle() {
        top->clk = 0;
        bool reading = !reads.empty() && cycles >= reads.front().due;
        top->m_axi_rvalid = reading;
        if (reading) {
            const Burst& burst = reads.front();
            if (burst.bytes)
                std::memcpy(&top->m_axi_rdata, burst.bytes + BEAT_BYTES * read_beat, BEAT_BYTES);
            else
                std::memset(&top->m_axi_rdata, 0, BEAT_BYTES);
            top->m_axi_rresp = burst.bytes ? OKAY : DECERR;
            top->m_axi_rlast = read_beat + 1 == burst.beats;
        }
        top->m_axi_arready = reads.size() < BURSTS_IN_FLIGHT;
        top->m_axi_awready = writes.size() + responses.size() < BURSTS_IN_FLIGHT;
        top->m_axi_wready = !writes.empty();
        bool answering = !responses.empty() && cycles >= responses.front().due;
        top->m_axi_bvalid = answering;
        if (answering) top->m_axi_bresp = responses.front().code;
        top->eval();
#ifdef TRACE
        if (fst) fst->dump(cycles * 10);
#endif
    }

    void edge() {
        watch();
        bool read = top->m_axi_rvalid && top->m_axi_rready;
        bool asked = top->m_axi_arvalid && top->m_axi_arready;
        bool written = top->m_axi_wvalid && top->m_axi_wready;
        bool announced = top->m_axi_awvalid && top->m_axi_awready;
        bool answered = top->m_axi_bvalid && top->m_axi_bready;
        if (read && ++read_beat == reads.front().beats) {
            reads.pop_front();
            read_beat = 0;
        }
        if (asked) {
            check(top->m_axi_araddr, top->m_axi_arlen + 1u, top->m_axi_arsize, top->m_axi_arburst);
            reads.push_back(burst(top->m_axi_araddr, top->m_axi_arlen + 1u));
        }
        if (written) store();
        if (announced) {
            check(top->m_axi_awaddr, top->m_axi_awlen + 1u, top->m_axi_awsize, top->m_axi_awburst);
            writes.push_back(burst(top->m_axi_awaddr, top->m_axi_awlen + 1u));
        }
        if (answered) responses.pop_front();
        top->clk = 1;
        top->eval();
#ifdef TRACE
        if (fst) fst->dump(cycles * 10 + 5);
#endif
        cycles++;
    }

    // What AXI forbids, and what this memory does not know.
    void check(uint64_t address, uint32_t beats, int size, int kind) {
        if (top->rst) bus_error = "VALID while reset is asserted";
        const uint64_t first = address & ~static_cast<uint64_t>(BEAT_BYTES - 1);
        if (first / PAGE_BYTES != (first + BEAT_BYTES * beats - 1) / PAGE_BYTES) bus_error = "a burst crosses 4 KiB";
        if (size != BEAT_SIZE) bus_error = "a burst of beats that are not as wide as the bus";
        if (kind != INCREMENTING) bus_error = "a burst whose addresses do not increment";
    }

    Burst burst(uint64_t address, uint32_t beats) {
        address &= ~static_cast<uint64_t>(BEAT_BYTES - 1);
        const uint64_t size = BEAT_BYTES * static_cast<uint64_t>(beats);
        for (Stretch& stretch : memory) {
            const uint64_t offset = address - stretch.base;
            if (address >= stretch.base && offset <= stretch.bytes.size() && size <= stretch.bytes.size() - offset)
                return {cycles + latency, stretch.bytes.data() + offset, beats};
        }
        return {cycles + latency, nullptr, beats};
    }

    void store() {
        const Burst& target = writes.front();
        if (target.bytes) {
            uint8_t data[BEAT_BYTES];
            std::memcpy(data, &top->m_axi_wdata, BEAT_BYTES);
            uint8_t* place = target.bytes + BEAT_BYTES * write_beat;
            for (uint32_t lane = 0; lane < BEAT_BYTES; lane++)
                if (top->m_axi_wstrb >> lane & 1) place[lane] = data[lane];
        }
        const bool last = ++write_beat == target.beats;
        if (top->m_axi_wlast != last) bus_error = "WLAST on another beat than the last";
        if (last) {
            responses.push_back({cycles + latency, target.bytes ? OKAY : DECERR});
            writes.pop_front();
            write_beat = 0;
        }
    }

    // Keeps a copy of the scratchpad, and hands out tensors when the commands that write them complete.
    void watch() {
        if (top->probe_write_valid) {
            uint8_t mask[MASK_BYTES];
            uint8_t data[DATA_BYTES];
            std::memcpy(mask, &top->probe_write_mask, MASK_BYTES);
            std::memcpy(data, &top->probe_write_data, DATA_BYTES);
            const uint32_t keep = (1u << element_bits) - 1;
            uint32_t address = top->probe_write_address;
            for (uint32_t lane = 0; lane < lanes; lane++, address++) {
                if (!(mask[lane / 8] >> lane % 8 & 1)) continue;
                const uint32_t bit = lane * element_bits;
                scratchpad[address & (scratchpad.size() - 1)] = data[bit / 8] >> bit % 8 & keep;
            }
        }
        // Before `arm` there is no place for what a probe takes; a machine that is not right may complete commands then.
        if (!top->probe_done || !armed) return;
        for (uint32_t engine = 0; engine < ENGINES; engine++) {
            if (!(top->probe_done >> engine & 1)) continue;
            completed[engine]++;
            const std::vector<Probe>& queue = probes[engine];
            for (size_t& next = next_probe[engine]; next < queue.size() && queue[next].sequence <= completed[engine]; next++)
                take(queue[next]);
        }
    }

    void take(const Probe& probe) {
        for (uint32_t element = 0; element < probe.elements; element++)
            probe_output[probe.offset + element] = scratchpad[(probe.address + element) & (scratchpad.size() - 1)];
        taken++;
    }

    VerilatedContext context;
    std::unique_ptr<Vmachine> top;
#ifdef TRACE
    std::unique_ptr<VerilatedFstC> fst;
#endif
    const uint32_t latency;
    const uint32_t lanes;
    const uint32_t element_bits;
    std::vector<uint8_t> scratchpad;
    std::vector<Stretch> memory;
    std::deque<Burst> reads;
    std::deque<Burst> writes;
    std::deque<Response> responses;
    uint32_t read_beat = 0;
    uint32_t write_beat = 0;
    uint64_t completed[ENGINES] = {};
    std::vector<Probe> probes[ENGINES];
    size_t next_probe[ENGINES] = {};
    bool armed = false;
    uint8_t* probe_output = nullptr;
};

}  // namespace

extern "C" {

void* harness_create(uint32_t latency, uint32_t elements, uint32_t lanes, uint32_t element_bits) {
    if (lanes > 8 * MASK_BYTES || lanes * element_bits > 8 * DATA_BYTES) return nullptr;
    return new Harness(latency, elements, lanes, element_bits);
}
uint32_t harness_beat_bytes() { return BEAT_BYTES; }
void harness_destroy(void* handle) { delete static_cast<Harness*>(handle); }
uint8_t* harness_add_memory(void* handle, uint64_t base, uint64_t size) {
    return static_cast<Harness*>(handle)->add_memory(base, size);
}
uint64_t harness_cycles(void* handle) { return static_cast<Harness*>(handle)->cycles; }
void harness_reset(void* handle, int cycles) { static_cast<Harness*>(handle)->reset(cycles); }
int harness_write_register(void* handle, uint32_t address, uint32_t value) {
    return static_cast<Harness*>(handle)->write_register(address, value);
}
int harness_read_register(void* handle, uint32_t address, uint32_t* value) {
    return static_cast<Harness*>(handle)->read_register(address, value);
}
void harness_add_probe(void* handle, int engine, uint64_t sequence, uint32_t address, uint32_t elements, uint64_t offset) {
    static_cast<Harness*>(handle)->add_probe(engine, {sequence, address, elements, offset});
}
void harness_arm(void* handle, uint8_t* probe_output) { static_cast<Harness*>(handle)->arm(probe_output); }
int harness_run(void* handle, uint64_t limit) { return static_cast<Harness*>(handle)->run(limit); }
uint64_t harness_cycles_since_write(void* handle) {
    const Harness* harness = static_cast<Harness*>(handle);
    return harness->cycles - harness->written_cycle;
}
uint64_t harness_probes_taken(void* handle) { return static_cast<Harness*>(handle)->taken; }
uint64_t harness_completed(void* handle, int engine) { return static_cast<Harness*>(handle)->completed_by(engine); }
const char* harness_bus_error(void* handle) { return static_cast<Harness*>(handle)->bus_error; }
int harness_trace(void* handle, const char* path) { return static_cast<Harness*>(handle)->trace(path); }
void harness_close_trace(void* handle) { static_cast<Harness*>(handle)->close_trace(); }
}
