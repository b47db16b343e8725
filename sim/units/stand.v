// The stand that a unit under test is put on: a source and a sink with stalls on both sides, and what they check.
//
// A run, started by `start`, resets the unit, fills it with the output stalled, resets it, lets it flow, resets it,
// and then plays `words` inputs from the file standINDEX.i and compares the output, in every cycle in which it is
// valid, with `results` words of standINDEX.o. Stalls come from standINDEX.s, a byte a cycle, repeated: bit 0 lets
// the source offer, bit 1 makes the sink ready, bit 2 is for a `feeder`. With `manual` high the ports follow the
// manual_* registers instead, for a driver in Python.
//
// LANES copies of the unit stand side by side, share valid and ready, and must agree on both. Bytes in the files are
// big-endian; each lane's payload takes whole bytes, the first lane is the last in a word, and an input word begins
// with a byte whose bit 0 tells that the input brings a result.

module stand #(
    parameter INDEX = 0,
    parameter LANES = 1,
    parameter IN_BITS = 1,
    parameter OUT_BITS = 1,
    parameter LATENCY = 1
) (
    input clk,
    output unit_rst,
    output unit_i_valid,
    output [LANES*IN_BITS-1:0] unit_i_payload,
    input [LANES-1:0] unit_i_ready,
    input [LANES-1:0] unit_o_valid,
    input [LANES*OUT_BITS-1:0] unit_o_payload,
    output unit_o_ready,
    input blocked,          // the unit may not take its input in this cycle: it waits for something else
    input side_error,       // something else that went wrong
    output [2:0] go,
    output rewind,
    output drive_manually
);
    localparam IN_BYTES = (IN_BITS + 7) / 8;
    localparam OUT_BYTES = (OUT_BITS + 7) / 8;
    localparam PATTERN = 65536;
    localparam PATIENCE = 1000;

    localparam [2:0] IDLE = 0, RESET = 1, FILL = 2, PLAY = 3, DRAIN = 4, DONE = 5;

    // Written by Python.
    reg start = 0;
    reg manual = 0;
    reg manual_rst = 0;
    reg manual_i_valid = 0;
    reg manual_o_ready = 0;
    reg [LANES*IN_BITS-1:0] manual_i_payload = 0;
    reg stop_early = 0;     // end the run at the first error
    reg [31:0] words = 0;
    reg [31:0] results = 0;
    reg [31:0] limit = 0;   // cycles

    // Read by Python.
    reg done = 0;
    reg [31:0] cycles = 0, sent = 0, received = 0;
    reg [31:0] mismatches = 0, extras = 0, ready_errors = 0, valid_errors = 0, side_errors = 0;
    reg hang = 0;
    reg [31:0] first_mismatch = 0;
    reg [LANES*OUT_BYTES*8-1:0] first_got = 0;
    wire failed = mismatches != 0 || extras != 0 || ready_errors != 0 || valid_errors != 0 || side_errors != 0
        || hang;

    // The stalls.
    reg [7:0] pattern [0:PATTERN-1];
    reg [15:0] position = 0;
    reg [2:0] go_now = 0;
    assign go = go_now;

    reg [2:0] state = IDLE;
    reg [1:0] fills = 0;
    reg [31:0] timer = 0;
    integer code, i_file = 0, o_file = 0, s_file = 0;
    string name;

    // The source: what it offers stays until it is taken; between offers the payload is rubbish.
    reg valid = 0;
    reg [8+LANES*IN_BYTES*8-1:0] word = 0, next_word = 0;
    wire taken = valid && unit_i_ready[0];
    wire can_offer = !valid || unit_i_ready[0];

    // The sink.
    reg sink_ready = 0;
    reg [LANES*OUT_BYTES*8-1:0] expected = 0;
    reg [LANES*OUT_BYTES*8-1:0] got;
    wire delivered = unit_o_valid[0] && unit_o_ready;

    wire [LANES*IN_BITS-1:0] word_payload;
    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            assign word_payload[lane*IN_BITS +: IN_BITS] = word[lane*IN_BYTES*8 +: IN_BITS];
        end
    endgenerate
    integer l;
    always @* begin
        got = 0;
        for (l = 0; l < LANES; l = l + 1)
            got[l*OUT_BYTES*8 +: OUT_BITS] = unit_o_payload[l*OUT_BITS +: OUT_BITS];
    end

    assign drive_manually = manual;
    assign rewind = state == RESET;
    assign unit_rst = manual ? manual_rst : state == RESET;
    assign unit_i_valid = manual ? manual_i_valid : valid;
    assign unit_i_payload = manual ? manual_i_payload : word_payload;
    assign unit_o_ready = manual ? manual_o_ready : sink_ready;

    // An elastic pipeline of LATENCY stages: which are full, and whether each moves on.
    reg [LATENCY-1:0] full = 0;
    reg [LATENCY-1:0] brings = 0;
    reg [LATENCY:0] moves;
    integer n;
    always @* begin
        moves[LATENCY] = unit_o_ready;
        for (n = LATENCY - 1; n >= 0; n = n - 1)
            moves[n] = !full[n] || moves[n+1];
    end
    wire enters = unit_i_valid && moves[0] && !blocked;
    wire word_brings = word[LANES*IN_BYTES*8];
    // Apart from the registers: Verilator 5.048 gets a loop wrong that reads what it assigns with `<=`.
    reg [LATENCY-1:0] full_next, brings_next;
    integer k;
    always @* begin
        for (k = 0; k < LATENCY; k = k + 1) begin
            full_next[k] = full[k];
            brings_next[k] = brings[k];
            if (moves[k]) begin
                full_next[k] = k == 0 ? enters && (LATENCY > 1 || word_brings)
                    : full[k-1] && (k < LATENCY - 1 || brings[k-1]);
                brings_next[k] = k == 0 ? word_brings : brings[k-1];
            end
            if (unit_rst) full_next[k] = 0;
        end
    end
    // Cycles in which a stage was stalled while full, and in which it was filled while the output was stalled.
    reg [31:0] stalled [0:LATENCY-1];
    reg [31:0] filled [0:LATENCY-1];
    reg [31:0] all_full = 0, full_speed = 0;
    integer c;
    always @(posedge clk) begin
        full <= full_next;
        brings <= brings_next;

        go_now <= pattern[position][2:0];
        position <= position + 1;
        sink_ready <= state == FILL ? fills != 1 && pattern[position][1] : state == DRAIN || pattern[position][1];
        timer <= timer + 1;

        if (!manual && (state == FILL || state == PLAY || state == DRAIN)) begin
            if (unit_i_ready != {LANES{moves[0] && !blocked}}) ready_errors <= ready_errors + 1;
            if (unit_o_valid != {LANES{full[LATENCY-1]}}) valid_errors <= valid_errors + 1;
            if (side_error) side_errors <= side_errors + 1;
            for (c = 0; c < LATENCY; c = c + 1) begin
                if (full[c] && !moves[c]) stalled[c] <= stalled[c] + 1;
                if (!full[c] && !unit_o_ready && full[LATENCY-1] && (c == 0 ? enters : full[c-1]))
                    filled[c] <= filled[c] + 1;
            end
            if (&full && !unit_o_ready) all_full <= all_full + 1;
            if (&full && unit_o_ready && enters) full_speed <= full_speed + 1;
        end

        case (state)
            IDLE: if (start) begin
                name = $sformatf("stand%0d", INDEX);
                s_file = $fopen({name, ".s"}, "rb");
                code = $fread(pattern, s_file);
                $fclose(s_file);
                i_file = $fopen({name, ".i"}, "rb");
                o_file = $fopen({name, ".o"}, "rb");
                for (c = 0; c < LATENCY; c = c + 1) begin
                    stalled[c] <= 0;
                    filled[c] <= 0;
                end
                {all_full, full_speed, cycles, sent, received} <= 0;
                {mismatches, extras, ready_errors, valid_errors, side_errors, hang} <= 0;
                position <= 0;
                fills <= 0;
                state <= RESET;
            end
            RESET: begin
                code = $rewind(i_file);
                code = $rewind(o_file);
                code = $fread(expected, o_file);
                sent <= 0;
                received <= 0;
                timer <= 0;
                fills <= fills + 1;
                state <= fills == 2 ? PLAY : FILL;
                if (fills == 2) valid <= 0;
            end
            FILL: if (timer == 16 + 4 * LATENCY) state <= RESET;
            PLAY: if (received == results && sent == words && !valid) begin
                state <= DRAIN;
                timer <= 0;
            end
            DRAIN: if (timer == 16 + 4 * LATENCY) state <= DONE;
            default: ;
        endcase

        if (state == FILL || state == PLAY) begin
            if (can_offer) begin
                if (pattern[position][0] && sent != words) begin
                    code = $fread(next_word, i_file);
                    word <= next_word;
                    valid <= 1;
                    sent <= sent + 1;
                end else begin
                    word <= {word[8+LANES*IN_BYTES*8-1:LANES*IN_BYTES*8], ~word[LANES*IN_BYTES*8-1:0]};
                    valid <= 0;
                end
            end
        end

        if (state == PLAY || state == DRAIN) begin
            cycles <= cycles + 1;
            if (|unit_o_valid) begin
                if (received == results) extras <= extras + 1;
                else if (got != expected) begin
                    if (mismatches == 0) begin
                        first_mismatch <= received;
                        first_got <= got;
                    end
                    mismatches <= mismatches + 1;
                end
            end
            if (delivered && received != results) begin
                received <= received + 1;
                code = $fread(expected, o_file);
            end
            if (state == PLAY) begin
                if (taken || delivered && received != results) timer <= 0;
                if (timer == PATIENCE || cycles == limit) begin
                    hang <= 1;
                    state <= DONE;
                end
            end
        end

        if ((stop_early && failed) && state != IDLE && state != RESET) state <= DONE;
        if (state == DONE) begin
            valid <= 0;
            if (!done) begin
                $fclose(i_file);
                $fclose(o_file);
            end
            done <= 1;
            if (!start) begin
                done <= 0;
                state <= IDLE;
            end
        end
    end
endmodule

// A second source, for a unit's other input stream: plays standINDEX.w, as often as the stand rewinds it.
module feeder #(
    parameter INDEX = 0,
    parameter BITS = 8
) (
    input clk,
    input go,
    input rewind,
    input drive_manually,
    output unit_valid,
    output [BITS-1:0] unit_payload,
    input unit_ready
);
    localparam BYTES = (BITS + 7) / 8;

    // Written by Python.
    reg manual_valid = 0;
    reg [BITS-1:0] manual_payload = 0;
    reg [31:0] words = 0;

    reg valid = 0;
    reg [BYTES*8-1:0] word = 0, next_word = 0;
    reg [31:0] sent = 0;
    integer code, file = 0;
    string name;

    assign unit_valid = drive_manually ? manual_valid : valid;
    assign unit_payload = drive_manually ? manual_payload : word[BITS-1:0];

    always @(posedge clk) begin
        if (rewind) begin
            if (file == 0) begin
                name = $sformatf("stand%0d.w", INDEX);
                file = $fopen(name, "rb");
            end else code = $rewind(file);
            sent <= 0;
            valid <= 0;
        end else if (!valid || unit_ready) begin
            if (go && sent != words && file != 0) begin
                code = $fread(next_word, file);
                word <= next_word;
                valid <= 1;
                sent <= sent + 1;
            end else begin
                word <= ~word;
                valid <= 0;
            end
        end
    end
endmodule

// What a unit with tiles of weights waits for: an input with `swap` is taken once a tile's last word is there, and
// the next tile's words are taken from the cycle of the swap on, or with `stop` from the next.
module tile_gate (
    input clk,
    input rst,
    input w_valid,
    input w_ready,
    input w_last,
    input i_valid,
    input i_ready,
    input swap,
    input stop,
    output blocked,
    output error
);
    reg whole = 0;
    wire swapped = i_valid && i_ready && swap;

    assign blocked = swap && !whole;
    assign error = w_ready != (!whole || (swapped && !stop));

    // Read by Python: swaps that waited, and swaps whose tile was whole in time.
    reg [31:0] waited = 0, in_time = 0;

    always @(posedge clk) begin
        if (i_valid && blocked) waited <= waited + 1;
        if (swapped) in_time <= in_time + 1;
        if (rst) begin
            whole <= 0;
        end else begin
            if (swapped) whole <= 0;
            if (w_valid && w_ready && w_last) whole <= 1;
        end
    end
endmodule
