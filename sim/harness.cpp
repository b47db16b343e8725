// The Verilated machine with a memory behind it, as a shared library for Python (ctypes).
//
// The memory: one 64-bit AXI4 port; R and W each move a beat a cycle, LATENCY cycles from an address to its first data
// and from the last data to B, at most 8 bursts in flight each way, answers in order. Addresses past its end answer
// DECERR. The library owns the clock, so that nothing of Python runs in a cycle.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vmachine.h"
#include "verilated.h"
#ifdef TRACE
#include "verilated_fst_c.h"
#endif

namespace {

constexpr int BEAT_BYTES = 8;
constexpr size_t BURSTS_IN_FLIGHT = 8;
constexpr int REGISTER_TIMEOUT_CYCLES = 1000;
constexpr int OKAY = 0;
constexpr int DECERR = 3;
constexpr int ENGINES = 6;

struct Burst {
    uint64_t due;  // cycle of the first data
    uint64_t address;
    uint32_t beats;
    bool failed;
};

struct Response {
    uint64_t due;
    int code;
};

struct Tap {
    int engine;
    uint64_t sequence;  // commands that the engine has completed by then
    uint32_t address;   // in elements
    uint32_t elements;
    uint64_t offset;  // in the output, one byte an element
};

class Harness {
public:
    Harness(uint64_t memory_bytes, uint32_t latency, uint32_t scratchpad_elements, uint32_t lanes, uint32_t element_bits)
        : memory(memory_bytes), latency(latency), lanes(lanes), element_bits(element_bits), scratchpad(scratchpad_elements) {
        context.traceEverOn(true);
        top = std::make_unique<Vmachine>(&context);
        reset(4);
    }

    ~Harness() { top->final(); }

    void reset(int count) {
        top->s_axil_awvalid = top->s_axil_wvalid = top->s_axil_arvalid = 0;
        top->s_axil_bready = top->s_axil_rready = 0;
        top->rst = 1;
        for (int i = 0; i < count; i++) cycle();
        top->rst = 0;
        reads.clear();
        writes.clear();
        responses.clear();
        read_beat = write_beat = 0;
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
            if (data_taken) top->s_axil_wvalid = 0;
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

    // Runs until the interrupt; the cycles that took, or -1 if `limit` cycles did not bring it.
    int64_t run(uint64_t limit, uint8_t* output) {
        tap_output = output;
        std::memset(completed, 0, sizeof completed);
        for (uint64_t count = 0; count < limit; count++) {
            cycle();
            if (top->irq) return static_cast<int64_t>(count + 1);
        }
        return -1;
    }

    void trace(const char* path) {
#ifdef TRACE
        fst = std::make_unique<VerilatedFstC>();
        top->trace(fst.get(), 99);
        fst->open(path);
#else
        (void)path;
#endif
    }

    void close_trace() {
#ifdef TRACE
        if (fst) fst->close();
        fst.reset();
#endif
    }

    std::vector<uint8_t> memory;
    std::vector<Tap> taps;
    uint64_t cycles = 0;

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
            uint64_t data = 0;
            if (!burst.failed) std::memcpy(&data, &memory[burst.address + BEAT_BYTES * read_beat], BEAT_BYTES);
            top->m_axi_rdata = data;
            top->m_axi_rresp = burst.failed ? DECERR : OKAY;
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
        if (asked) reads.push_back(burst(top->m_axi_araddr, top->m_axi_arlen + 1u));
        if (written) store();
        if (announced) writes.push_back(burst(top->m_axi_awaddr, top->m_axi_awlen + 1u));
        if (answered) responses.pop_front();
        top->clk = 1;
        top->eval();
#ifdef TRACE
        if (fst) fst->dump(cycles * 10 + 5);
#endif
        cycles++;
    }

    Burst burst(uint64_t address, uint32_t beats) const {
        address &= ~static_cast<uint64_t>(BEAT_BYTES - 1);
        return {cycles + latency, address, beats, address + BEAT_BYTES * beats > memory.size()};
    }

    void store() {
        const Burst& target = writes.front();
        if (!target.failed) {
            uint64_t data = top->m_axi_wdata;
            uint8_t* place = &memory[target.address + BEAT_BYTES * write_beat];
            for (int lane = 0; lane < BEAT_BYTES; lane++)
                if (top->m_axi_wstrb >> lane & 1) place[lane] = static_cast<uint8_t>(data >> 8 * lane);
        }
        if (++write_beat == target.beats) {
            responses.push_back({cycles + latency, target.failed ? DECERR : OKAY});
            writes.pop_front();
            write_beat = 0;
        }
    }

    // Keeps a copy of the scratchpad, and hands out tensors when the commands that write them complete.
    void watch() {
        if (top->tap_write_valid) {
            uint64_t mask = 0;
            uint8_t data[64] = {};
            std::memcpy(&mask, &top->tap_write_mask, sizeof top->tap_write_mask);
            std::memcpy(data, &top->tap_write_data, sizeof top->tap_write_data);
            const uint32_t keep = (1u << element_bits) - 1;
            uint32_t address = top->tap_write_address;
            for (uint32_t lane = 0; lane < lanes; lane++, address++) {
                if (!(mask >> lane & 1)) continue;
                const uint32_t bit = lane * element_bits;
                scratchpad[address & (scratchpad.size() - 1)] = data[bit / 8] >> bit % 8 & keep;
            }
        }
        if (!top->tap_done) return;
        for (int engine = 0; engine < ENGINES; engine++)
            if (top->tap_done >> engine & 1) completed[engine]++;
        for (const Tap& tap : taps)
            if ((top->tap_done >> tap.engine & 1) && completed[tap.engine] == tap.sequence)
                std::memcpy(tap_output + tap.offset, &scratchpad[tap.address], tap.elements);
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
    std::deque<Burst> reads;
    std::deque<Burst> writes;
    std::deque<Response> responses;
    uint32_t read_beat = 0;
    uint32_t write_beat = 0;
    uint64_t completed[ENGINES] = {};
    uint8_t* tap_output = nullptr;
};

}  // namespace

extern "C" {

void* harness_create(uint64_t memory_bytes, uint32_t latency, uint32_t elements, uint32_t lanes, uint32_t element_bits) {
    return new Harness(memory_bytes, latency, elements, lanes, element_bits);
}
void harness_destroy(void* handle) { delete static_cast<Harness*>(handle); }
uint8_t* harness_memory(void* handle) { return static_cast<Harness*>(handle)->memory.data(); }
uint64_t harness_cycles(void* handle) { return static_cast<Harness*>(handle)->cycles; }
void harness_reset(void* handle, int cycles) { static_cast<Harness*>(handle)->reset(cycles); }
int harness_write_register(void* handle, uint32_t address, uint32_t value) {
    return static_cast<Harness*>(handle)->write_register(address, value);
}
int harness_read_register(void* handle, uint32_t address, uint32_t* value) {
    return static_cast<Harness*>(handle)->read_register(address, value);
}
void harness_add_tap(void* handle, int engine, uint64_t sequence, uint32_t address, uint32_t elements, uint64_t offset) {
    static_cast<Harness*>(handle)->taps.push_back({engine, sequence, address, elements, offset});
}
int64_t harness_run(void* handle, uint64_t limit, uint8_t* tap_output) {
    return static_cast<Harness*>(handle)->run(limit, tap_output);
}
void harness_trace(void* handle, const char* path) { static_cast<Harness*>(handle)->trace(path); }
void harness_close_trace(void* handle) { static_cast<Harness*>(handle)->close_trace(); }
}
