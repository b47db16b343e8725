// A module with a machine's ports that makes traffic as told and notes the cycles of what happens, to measure the
// harness's memory with. Registers, by word: writes 0x20 first address, 0x24 beats a burst, 0x28 bursts,
// 0x10 start (1: read, 2: write); 0x40 a write on chip of four lanes (address, data and mask from 0x44, 0x48, 0x4c),
// 0x50 the same with command completions of its bits in the same cycle, 0x54 completions alone.
// Reads: 0x80 on, see `noted`; cycle numbers count from the start.
module machine(
    input clk, input rst, output reg irq,
    output m_axi_arid, output [31:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize,
    output [1:0] m_axi_arburst, output m_axi_arvalid, input m_axi_arready,
    input m_axi_rid, input [63:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast, input m_axi_rvalid,
    output m_axi_rready,
    output m_axi_awid, output [31:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize,
    output [1:0] m_axi_awburst, output m_axi_awvalid, input m_axi_awready,
    output [63:0] m_axi_wdata, output [7:0] m_axi_wstrb, output m_axi_wlast, output m_axi_wvalid, input m_axi_wready,
    input m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    input [11:0] s_axil_awaddr, input s_axil_awvalid, output s_axil_awready,
    input [31:0] s_axil_wdata, input [3:0] s_axil_wstrb, input s_axil_wvalid, output s_axil_wready,
    output [1:0] s_axil_bresp, output reg s_axil_bvalid, input s_axil_bready,
    input [11:0] s_axil_araddr, input s_axil_arvalid, output s_axil_arready,
    output reg [31:0] s_axil_rdata, output [1:0] s_axil_rresp, output reg s_axil_rvalid, input s_axil_rready,
    output reg [5:0] probe_done, output reg probe_write_valid, output [2:0] probe_write_engine,
    output [7:0] probe_write_address, output [3:0] probe_write_mask, output [15:0] probe_write_data
);
    /* verilator lint_off UNUSEDSIGNAL */
    wire unused = &{1'b0, m_axi_rid, m_axi_bid, s_axil_wstrb, s_axil_bready, s_axil_rready};
    /* verilator lint_on UNUSEDSIGNAL */

    reg [31:0] first, beats, bursts;
    reg [7:0] address;
    reg [15:0] data;
    reg [3:0] mask;
    reg [31:0] cycle, asked, begun, beat, moved, answered;
    reg reading, writing;
    reg [31:0] noted [0:9];
    localparam FIRST_ADDRESS = 0, LAST_ADDRESS = 1, FIRST_DATA = 2, LAST_DATA = 3, FIRST_ANSWER = 4, LAST_ANSWER = 5,
        IN_FLIGHT = 6, RESPONSES = 7, LASTS = 8, SUM = 9;

    assign m_axi_arid = 0, m_axi_awid = 0;
    assign m_axi_arsize = 3, m_axi_awsize = 3, m_axi_arburst = 1, m_axi_awburst = 1;
    assign m_axi_arlen = beats[7:0] - 1, m_axi_awlen = beats[7:0] - 1;
    assign m_axi_araddr = first + asked * beats * 8, m_axi_awaddr = m_axi_araddr;
    assign m_axi_arvalid = reading & asked != bursts;
    assign m_axi_awvalid = writing & asked != bursts;
    assign m_axi_rready = 1, m_axi_bready = 1;
    assign m_axi_wvalid = writing & begun != bursts;
    assign m_axi_wdata = {~moved, moved};
    assign m_axi_wstrb = moved[0] ? 8'hf0 : 8'hff;
    assign m_axi_wlast = beat == beats - 1;
    assign s_axil_awready = s_axil_wvalid & ~s_axil_bvalid, s_axil_wready = s_axil_awvalid & ~s_axil_bvalid;
    assign s_axil_arready = ~s_axil_rvalid;
    assign s_axil_bresp = 0, s_axil_rresp = 0;
    assign probe_write_engine = 0;
    assign probe_write_address = address, probe_write_data = data, probe_write_mask = mask;

    wire ask = m_axi_arvalid & m_axi_arready | m_axi_awvalid & m_axi_awready;
    wire read = m_axi_rvalid & m_axi_rready;
    wire move = read | m_axi_wvalid & m_axi_wready;
    wire answer = read & m_axi_rlast | m_axi_bvalid & m_axi_bready;
    wire [31:0] in_flight = asked - answered;
    wire last = reading ? m_axi_rlast : m_axi_wlast;

    always @(posedge clk) begin
        cycle <= cycle + 1;
        probe_done <= 0;
        probe_write_valid <= 0;
        if (ask) begin
            asked <= asked + 1;
            if (asked == 0) noted[FIRST_ADDRESS] <= cycle;
            noted[LAST_ADDRESS] <= cycle;
        end
        if (in_flight > noted[IN_FLIGHT]) noted[IN_FLIGHT] <= in_flight;
        if (move) begin
            moved <= moved + 1;
            if (moved == 0) noted[FIRST_DATA] <= cycle;
            noted[LAST_DATA] <= cycle;
            noted[SUM] <= noted[SUM] + m_axi_rdata[31:0] + 3 * m_axi_rdata[63:32];
            beat <= beat == beats - 1 ? 0 : beat + 1;
            if (beat == beats - 1) begin
                begun <= begun + 1;
                noted[LASTS] <= noted[LASTS] + {31'b0, last};
            end
        end
        if (answer) begin
            answered <= answered + 1;
            if (answered == 0) noted[FIRST_ANSWER] <= cycle;
            noted[LAST_ANSWER] <= cycle;
            noted[RESPONSES] <= noted[RESPONSES] | {30'b0, reading ? m_axi_rresp : m_axi_bresp};
            if (answered == bursts - 1) irq <= 1;
        end
        if (s_axil_bvalid) s_axil_bvalid <= 0;
        if (s_axil_rvalid) s_axil_rvalid <= 0;
        if (s_axil_arvalid & s_axil_arready) begin
            s_axil_rvalid <= s_axil_araddr != 12'hffc;
            s_axil_rdata <= noted[s_axil_araddr[5:2]];
        end
        if (s_axil_awvalid & s_axil_awready) begin
            s_axil_bvalid <= 1;
            case (s_axil_awaddr)
                12'h10: begin
                    {reading, writing} <= {s_axil_wdata[0], s_axil_wdata[1]};
                    {cycle, asked, begun, beat, moved, answered, irq} <= 0;
                    for (int i = 0; i < 10; i++) noted[i] <= 0;
                end
                12'h20: first <= s_axil_wdata;
                12'h24: beats <= s_axil_wdata;
                12'h28: bursts <= s_axil_wdata;
                12'h40: probe_write_valid <= 1;
                12'h44: address <= s_axil_wdata[7:0];
                12'h48: data <= s_axil_wdata[15:0];
                12'h4c: mask <= s_axil_wdata[3:0];
                12'h50: begin
                    probe_write_valid <= 1;
                    probe_done <= s_axil_wdata[5:0];
                end
                12'h54: probe_done <= s_axil_wdata[5:0];
                default: ;
            endcase
        end
        if (rst) begin
            {irq, reading, writing, s_axil_bvalid, s_axil_rvalid, probe_write_valid} <= 0;
            probe_done <= 0;
        end
    end
endmodule
