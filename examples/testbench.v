// A machine and a memory on a bench in plain Verilog, to copy: reads who the machine is, lets it copy bytes from its
// region INPUT to its region OUTPUT by a program of two commands, and checks memory. Prints what is
// wrong, and "passed" or "failed".
//
//     % verilator --binary -Wno-WIDTHEXPAND -Wno-WIDTHTRUNC -DMACHINE=intaglio_sbnq8x8 testbench.v intaglio_sbnq8x8.v
//
// The parameters are the machine's configuration; its fingerprint, where given, is compared. Both are in NAME.v.
`timescale 1ns / 1ps
module testbench #(parameter ADDRESS_BITS = 32, BUS_BITS = 64, parameter [31:0] FINGERPRINT = 0);
    localparam BEAT = BUS_BITS / 8, BYTES = 48, PROGRAM = 'h1000, SOURCE = 'h2000, GOAL = 'h3000;
    localparam [11:0] ID = 12'h000, VERSION = 12'h004, MADE_FOR = 12'h008, CONTROL = 12'h010, STATUS = 12'h014,
        INTERRUPT = 12'h018, COMMAND_COUNT = 12'h024, FAULT_CAUSE = 12'h040, PROGRAM_BASE = 12'h100,
        PROGRAM_LIMIT = 12'h108, INPUT_BASE = 12'h110, INPUT_LIMIT = 12'h118, OUTPUT_BASE = 12'h120,
        OUTPUT_LIMIT = 12'h128;

    reg clk = 0, rst = 1, failed = 0;
    always #5 clk = !clk;

    // The registers' bus, driven at falling edges.
    reg [11:0] s_awaddr, s_araddr; reg [31:0] s_wdata; wire [31:0] s_rdata;
    reg s_awvalid = 0, s_wvalid = 0, s_arvalid = 0;
    wire irq, s_awready, s_wready, s_bvalid, s_arready, s_rvalid;
    // Memory's bus: a memory that serves one burst each way at a time. Bursts are of whole beats, one behind the other.
    wire [ADDRESS_BITS-1:0] araddr, awaddr; wire [7:0] arlen; wire [BUS_BITS-1:0] wdata; wire [BEAT-1:0] wstrb;
    wire arvalid, rready, awvalid, wlast, wvalid, bready;
    reg [BUS_BITS-1:0] memory [0:'h4000/BEAT-1];
    reg [ADDRESS_BITS-1:0] r_at, w_at; reg [7:0] r_left; reg r_busy, w_busy, b_due;
    integer i;
    always @(posedge clk)
        if (rst) {r_busy, w_busy, b_due} <= 0;
        else begin
            if (!r_busy && arvalid) begin r_busy <= 1; r_at <= araddr; r_left <= arlen; end
            if (r_busy && rready) begin r_busy <= r_left != 0; r_at <= r_at + BEAT; r_left <= r_left - 1; end
            if (!w_busy && !b_due && awvalid) begin w_busy <= 1; w_at <= awaddr; end
            if (w_busy && wvalid) begin
                for (i = 0; i < BEAT; i = i + 1) if (wstrb[i]) memory[w_at / BEAT][8*i+:8] <= wdata[8*i+:8];
                w_at <= w_at + BEAT;
                if (wlast) begin w_busy <= 0; b_due <= 1; end
            end
            if (b_due && bready) b_due <= 0;
        end

    `MACHINE machine (.clk(clk), .rst(rst), .irq(irq),
        .s_axil_awaddr(s_awaddr), .s_axil_awvalid(s_awvalid), .s_axil_awready(s_awready), .s_axil_wdata(s_wdata),
        .s_axil_wstrb(4'hf), .s_axil_wvalid(s_wvalid), .s_axil_wready(s_wready), .s_axil_bresp(), .s_axil_bvalid(s_bvalid),
        .s_axil_bready(1'b1), .s_axil_araddr(s_araddr), .s_axil_arvalid(s_arvalid), .s_axil_arready(s_arready),
        .s_axil_rdata(s_rdata), .s_axil_rresp(), .s_axil_rvalid(s_rvalid), .s_axil_rready(1'b1),
        .m_axi_arid(), .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arsize(), .m_axi_arburst(), .m_axi_arcache(),
        .m_axi_arprot(), .m_axi_arvalid(arvalid), .m_axi_arready(!r_busy), .m_axi_rdata(memory[r_at / BEAT]),
        .m_axi_rid(1'b0), .m_axi_rresp(2'b00), .m_axi_rlast(r_left == 0), .m_axi_rvalid(r_busy), .m_axi_rready(rready),
        .m_axi_awid(), .m_axi_awaddr(awaddr), .m_axi_awlen(), .m_axi_awsize(), .m_axi_awburst(), .m_axi_awcache(),
        .m_axi_awprot(), .m_axi_awvalid(awvalid), .m_axi_awready(!w_busy && !b_due), .m_axi_wdata(wdata),
        .m_axi_wstrb(wstrb), .m_axi_wlast(wlast), .m_axi_wvalid(wvalid), .m_axi_wready(w_busy), .m_axi_bid(1'b0),
        .m_axi_bresp(2'b00), .m_axi_bvalid(b_due), .m_axi_bready(bready));

    task write(input [11:0] register, input [31:0] value);
        begin
            s_awaddr = register; s_wdata = value; s_awvalid = 1; s_wvalid = 1;
            while (!s_awready || !s_wready) @(negedge clk);
            @(negedge clk) {s_awvalid, s_wvalid} = 0;
            while (!s_bvalid) @(negedge clk);
            @(negedge clk);
        end
    endtask
    task check(input [11:0] register, input [31:0] value);
        begin
            s_araddr = register; s_arvalid = 1;
            while (!s_arready) @(negedge clk);
            @(negedge clk) s_arvalid = 0;
            while (!s_rvalid) @(negedge clk);
            if (s_rdata != value) begin $display("register %h holds %h, not %h", register, s_rdata, value); failed = 1; end
            @(negedge clk);
        end
    endtask

    reg [511:0] load = 0, store = 0;
    initial begin
        for (i = 0; i < 'h4000 / BEAT; i = i + 1) memory[i] = {BEAT/4{i * 32'h9e3779b1}};
        // Fields of commands: docs/architecture.md. Opcode; region; bytes of a row; rows.
        load[7:0] = 8'h01; load[130:128] = 1; load[210:187] = BYTES; load[226:211] = 1;
        store[7:0] = 8'h40; store[130:128] = 2; store[210:187] = BYTES; store[226:211] = 1;
        store[31:16] = 1; // waits for one command of LOAD
        for (i = 0; i < 64 / BEAT; i = i + 1) begin
            memory[PROGRAM / BEAT + i] = load[BUS_BITS*i+:BUS_BITS];
            memory[(PROGRAM + 64) / BEAT + i] = store[BUS_BITS*i+:BUS_BITS];
        end
        repeat (4) @(negedge clk); rst = 0; @(negedge clk);
        check(ID, 32'h47544e49); check(VERSION, 2); if (FINGERPRINT != 0) check(MADE_FOR, FINGERPRINT);
        write(PROGRAM_BASE, PROGRAM); write(PROGRAM_LIMIT, 128); write(INPUT_BASE, SOURCE); write(INPUT_LIMIT, BYTES);
        write(OUTPUT_BASE, GOAL); write(OUTPUT_LIMIT, BYTES); write(COMMAND_COUNT, 2); write(CONTROL, 1);
        for (i = 0; i < 10000 && !irq; i = i + 1) @(negedge clk);
        check(FAULT_CAUSE, 0); check(STATUS, 2); write(INTERRUPT, 1); check(INTERRUPT, 0);
        for (i = GOAL / BEAT - 1; i <= (GOAL + BYTES) / BEAT; i = i + 1) // a beat on either side is as it was
            if (memory[i] != (i < GOAL / BEAT || i == (GOAL + BYTES) / BEAT ? {BEAT/4{i * 32'h9e3779b1}}
                : memory[i - (GOAL - SOURCE) / BEAT])) begin $display("beat %h is %h", i, memory[i]); failed = 1; end
        $display("%0s", failed ? "failed" : "passed"); $finish;
    end
endmodule
