// A module with a machine's ports that is done at once and whose `probe_done` is stuck at one. A text whose macros are
// yet to be replaced: FINGERPRINT, and the widths of the probes.
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
    output [`ENGINES-1:0] probe_done, output probe_write_valid, output [2:0] probe_write_engine,
    output [`ADDRESS_BITS-1:0] probe_write_address, output [`LANES-1:0] probe_write_mask,
    output [`DATA_BITS-1:0] probe_write_data
);
    /* verilator lint_off UNUSEDSIGNAL */
    wire unused = &{1'b0, m_axi_arready, m_axi_rid, m_axi_rdata, m_axi_rresp, m_axi_rlast, m_axi_rvalid, m_axi_awready,
        m_axi_wready, m_axi_bid, m_axi_bresp, m_axi_bvalid, s_axil_wdata, s_axil_wstrb, s_axil_bready, s_axil_rready};
    /* verilator lint_on UNUSEDSIGNAL */

    assign {m_axi_arid, m_axi_araddr, m_axi_arlen, m_axi_arsize, m_axi_arburst, m_axi_arvalid, m_axi_rready} = 0;
    assign {m_axi_awid, m_axi_awaddr, m_axi_awlen, m_axi_awsize, m_axi_awburst, m_axi_awvalid, m_axi_bready} = 0;
    assign {m_axi_wdata, m_axi_wstrb, m_axi_wlast, m_axi_wvalid, s_axil_bresp, s_axil_rresp} = 0;
    assign {probe_write_valid, probe_write_engine, probe_write_address, probe_write_mask, probe_write_data} = 0;
    assign probe_done = '1;
    assign s_axil_awready = s_axil_wvalid & ~s_axil_bvalid, s_axil_wready = s_axil_awvalid & ~s_axil_bvalid;
    assign s_axil_arready = ~s_axil_rvalid;

    always @(posedge clk) begin
        if (s_axil_bvalid) s_axil_bvalid <= 0;
        if (s_axil_rvalid) s_axil_rvalid <= 0;
        if (s_axil_arvalid & s_axil_arready) begin
            s_axil_rvalid <= 1;
            case (s_axil_araddr)
                12'h08: s_axil_rdata <= 32'd`FINGERPRINT;
                12'h14: s_axil_rdata <= 2;
                default: s_axil_rdata <= 0;
            endcase
        end
        if (s_axil_awvalid & s_axil_awready) begin
            s_axil_bvalid <= 1;
            if (s_axil_awaddr == 12'h10) irq <= 1;
        end
        if (rst) {irq, s_axil_bvalid, s_axil_rvalid} <= 0;
    end
endmodule
