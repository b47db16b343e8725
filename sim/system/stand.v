// The machine and a judge of its bus, so that no cycle needs Python.
//
// `broken` keeps the first rule that was broken (by number, see RULES in `sim.system.host`) until `rst` or `forgive`; one broken by
// what is valid in a reset outlasts that.
// All counters run on from the beginning of the simulation, but `reads_open`, `writes_open` and the queues of lengths,
// which a reset empties.
// Ref: Arm IHI 0022, AMBA AXI Protocol Specification [A3.1.2: valid is low in reset; A3.2.1: it stays until ready;
// A3.4.1: bursts].

module top (
    input clk,
    input rst,
    output irq,
    output m_axi_arid,
    output [39:0] m_axi_araddr,
    output [7:0] m_axi_arlen,
    output [2:0] m_axi_arsize,
    output [1:0] m_axi_arburst,
    output [3:0] m_axi_arcache,
    output [2:0] m_axi_arprot,
    output m_axi_arvalid,
    input m_axi_arready,
    input m_axi_rid,
    input [63:0] m_axi_rdata,
    input [1:0] m_axi_rresp,
    input m_axi_rlast,
    input m_axi_rvalid,
    output m_axi_rready,
    output m_axi_awid,
    output [39:0] m_axi_awaddr,
    output [7:0] m_axi_awlen,
    output [2:0] m_axi_awsize,
    output [1:0] m_axi_awburst,
    output [3:0] m_axi_awcache,
    output [2:0] m_axi_awprot,
    output m_axi_awvalid,
    input m_axi_awready,
    output [63:0] m_axi_wdata,
    output [7:0] m_axi_wstrb,
    output m_axi_wlast,
    output m_axi_wvalid,
    input m_axi_wready,
    input m_axi_bid,
    input [1:0] m_axi_bresp,
    input m_axi_bvalid,
    output m_axi_bready,
    input [11:0] s_axil_awaddr,
    input s_axil_awvalid,
    output s_axil_awready,
    input [31:0] s_axil_wdata,
    input [3:0] s_axil_wstrb,
    input s_axil_wvalid,
    output s_axil_wready,
    output [1:0] s_axil_bresp,
    output s_axil_bvalid,
    input s_axil_bready,
    input [11:0] s_axil_araddr,
    input s_axil_arvalid,
    output s_axil_arready,
    output [31:0] s_axil_rdata,
    output [1:0] s_axil_rresp,
    output s_axil_rvalid,
    input s_axil_rready,
    // What the host granted, and what it asks of the judge.
    input [5*40-1:0] bases,
    input [5*32-1:0] limits,
    input [4:0] readable,
    input [4:0] writable,
    input [7:0] attributes,
    input forgive,
    input unanswered,       // the memory has gone: the interrupt may come with bursts open
    output reg [7:0] broken,
    output reg [31:0] cycle,
    output reg [31:0] written_cycle,    // in which the latest response of the registers became valid
    output reg [31:0] irq_cycle,
    output reg [31:0] irq_rises,
    output reg [31:0] ar_bursts,
    output reg [31:0] r_beats,
    output reg [31:0] aw_bursts,
    output reg [31:0] w_beats,
    output reg [31:0] silent_beats,     // without a strobe
    output reg [31:0] responses,
    output reg [31:0] together,         // cycles in which several engines completed a command
    output reg [31:0] completed,
    output reg [7:0] reads_open,
    output reg [7:0] writes_open,
    output reg [7:0] most_reads_open,
    output reg [7:0] most_writes_open
);
    localparam OUTSTANDING = 8, BEATS = 32;
    wire [7:0] stated_open = OUTSTANDING;   // for Python

    machine machine (
        .clk(clk), .rst(rst), .irq(irq),
        .m_axi_arid(m_axi_arid), .m_axi_araddr(m_axi_araddr), .m_axi_arlen(m_axi_arlen),
        .m_axi_arsize(m_axi_arsize), .m_axi_arburst(m_axi_arburst), .m_axi_arcache(m_axi_arcache),
        .m_axi_arprot(m_axi_arprot), .m_axi_arvalid(m_axi_arvalid), .m_axi_arready(m_axi_arready),
        .m_axi_rid(m_axi_rid), .m_axi_rdata(m_axi_rdata), .m_axi_rresp(m_axi_rresp), .m_axi_rlast(m_axi_rlast),
        .m_axi_rvalid(m_axi_rvalid), .m_axi_rready(m_axi_rready),
        .m_axi_awid(m_axi_awid), .m_axi_awaddr(m_axi_awaddr), .m_axi_awlen(m_axi_awlen),
        .m_axi_awsize(m_axi_awsize), .m_axi_awburst(m_axi_awburst), .m_axi_awcache(m_axi_awcache),
        .m_axi_awprot(m_axi_awprot), .m_axi_awvalid(m_axi_awvalid), .m_axi_awready(m_axi_awready),
        .m_axi_wdata(m_axi_wdata), .m_axi_wstrb(m_axi_wstrb), .m_axi_wlast(m_axi_wlast),
        .m_axi_wvalid(m_axi_wvalid), .m_axi_wready(m_axi_wready),
        .m_axi_bid(m_axi_bid), .m_axi_bresp(m_axi_bresp), .m_axi_bvalid(m_axi_bvalid), .m_axi_bready(m_axi_bready),
        .s_axil_awaddr(s_axil_awaddr), .s_axil_awvalid(s_axil_awvalid), .s_axil_awready(s_axil_awready),
        .s_axil_wdata(s_axil_wdata), .s_axil_wstrb(s_axil_wstrb), .s_axil_wvalid(s_axil_wvalid),
        .s_axil_wready(s_axil_wready), .s_axil_bresp(s_axil_bresp), .s_axil_bvalid(s_axil_bvalid),
        .s_axil_bready(s_axil_bready), .s_axil_araddr(s_axil_araddr), .s_axil_arvalid(s_axil_arvalid),
        .s_axil_arready(s_axil_arready), .s_axil_rdata(s_axil_rdata), .s_axil_rresp(s_axil_rresp),
        .s_axil_rvalid(s_axil_rvalid), .s_axil_rready(s_axil_rready),
        .probe_done(probe_done), .probe_write_address(), .probe_write_data(), .probe_write_engine(), .probe_write_mask(),
        .probe_write_valid()
    );

    wire [5:0] probe_done;
    wire [2:0] completing = {2'd0, probe_done[0]} + {2'd0, probe_done[1]} + {2'd0, probe_done[2]} + {2'd0, probe_done[3]}
        + {2'd0, probe_done[4]} + {2'd0, probe_done[5]};

    wire [66:0] ar = {
        m_axi_arid, m_axi_araddr, m_axi_arlen, m_axi_arsize, m_axi_arburst, m_axi_arcache, m_axi_arprot, 6'd0
    };
    wire [66:0] aw = {
        m_axi_awid, m_axi_awaddr, m_axi_awlen, m_axi_awsize, m_axi_awburst, m_axi_awcache, m_axi_awprot, 6'd0
    };
    wire [72:0] w = {m_axi_wdata, m_axi_wstrb, m_axi_wlast};
    wire ar_moves = m_axi_arvalid && m_axi_arready, r_moves = m_axi_rvalid && m_axi_rready;
    wire aw_moves = m_axi_awvalid && m_axi_awready, w_moves = m_axi_wvalid && m_axi_wready;
    wire b_moves = m_axi_bvalid && m_axi_bready;
    // Whether all of a burst lies in a region of those; offsets are as large as the region's limit at most.
    function granted(input [39:0] address, input [7:0] length, input [4:0] regions);
        reg [39:0] offset;
        granted = 0;
        for (int region = 0; region < 5; region++) begin
            offset = address - bases[40*region+:40];
            if (regions[region] && {1'b0, offset} + {29'd0, {1'b0, length} + 9'd1, 3'd0} <= {9'd0, limits[32*region+:32]})
                granted = 1;
        end
    endfunction

    // What was offered in the cycle before and not taken.
    reg ar_held, aw_held, w_held, reset_before, irq_before, written_before;
    reg [66:0] ar_before, aw_before;
    reg [72:0] w_before;
    // Lengths of bursts that were announced and of those that were sent: data may run ahead of the address.
    reg [8:0] announced[0:31], sent[0:31];
    reg [4:0] announced_head, sent_head, compared;
    reg [8:0] beats_sent;

    reg [7:0] found;
    always @* begin
        found = 0;
        if ((rst || reset_before) && (m_axi_arvalid || m_axi_awvalid || m_axi_wvalid || irq && !rst || s_axil_bvalid || s_axil_rvalid))
            found = 1;
        else if (ar_held && (!m_axi_arvalid || ar != ar_before)) found = 2;
        else if (aw_held && (!m_axi_awvalid || aw != aw_before)) found = 3;
        else if (w_held && (!m_axi_wvalid || w != w_before)) found = 4;
        else if (m_axi_arvalid && (m_axi_arsize != 3 || m_axi_arburst != 1 || m_axi_arid || |m_axi_araddr[2:0]))
            found = 5;
        else if (m_axi_awvalid && (m_axi_awsize != 3 || m_axi_awburst != 1 || m_axi_awid || |m_axi_awaddr[2:0]))
            found = 6;
        else if (m_axi_arvalid && ({1'b0, m_axi_araddr[11:0]} + {1'b0, m_axi_arlen, 3'd0} + 13'd8 > 13'd4096))
            found = 7;
        else if (m_axi_awvalid && ({1'b0, m_axi_awaddr[11:0]} + {1'b0, m_axi_awlen, 3'd0} + 13'd8 > 13'd4096))
            found = 8;
        else if (m_axi_arvalid && m_axi_arlen >= BEATS) found = 9;
        else if (m_axi_awvalid && m_axi_awlen >= BEATS) found = 10;
        else if (m_axi_arvalid && !granted(m_axi_araddr, m_axi_arlen, readable)) found = 11;
        else if (m_axi_awvalid && !granted(m_axi_awaddr, m_axi_awlen, writable)) found = 12;
        else if (reads_open > OUTSTANDING || writes_open > OUTSTANDING) found = 13;
        else if (compared != announced_head && compared != sent_head && announced[compared] != sent[compared])
            found = 14;
        else if (irq && !unanswered && (m_axi_arvalid || m_axi_awvalid || m_axi_wvalid || reads_open != 0
                                        || writes_open != 0 || announced_head != sent_head || beats_sent != 0))
            found = 15;
        else if (w_moves && m_axi_wstrb != 0 && announced_head == sent_head && !m_axi_awvalid) found = 16;
        else if (m_axi_arvalid && {m_axi_arcache, m_axi_arprot} != {attributes[7:4], attributes[2:0]}) found = 17;
        else if (m_axi_awvalid && {m_axi_awcache, m_axi_awprot} != {attributes[7:4], attributes[2:0]}) found = 17;
    end

    always @(posedge clk) begin
        cycle <= cycle + 1;
        reset_before <= rst;
        irq_before <= irq && !rst;
        written_before <= s_axil_bvalid && !rst;
        if (irq && !irq_before && !rst) begin
            irq_rises <= irq_rises + 1;
            irq_cycle <= cycle;
        end
        if (s_axil_bvalid && !written_before) written_cycle <= cycle;
        if (forgive) broken <= 0;
        else if (rst) broken <= found == 1 || broken == 1 ? 1 : 0;
        else if (broken == 0) broken <= found;

        {ar_held, aw_held, w_held} <= rst ? 3'd0 : {
            m_axi_arvalid && !m_axi_arready, m_axi_awvalid && !m_axi_awready, m_axi_wvalid && !m_axi_wready
        };
        ar_before <= ar;
        aw_before <= aw;
        w_before <= w;

        ar_bursts <= ar_bursts + {31'd0, ar_moves && !rst};
        aw_bursts <= aw_bursts + {31'd0, aw_moves && !rst};
        r_beats <= r_beats + {31'd0, r_moves && !rst};
        w_beats <= w_beats + {31'd0, w_moves && !rst};
        silent_beats <= silent_beats + {31'd0, w_moves && m_axi_wstrb == 0 && !rst};
        responses <= responses + {31'd0, b_moves && !rst};
        together <= together + {31'd0, completing > 1 && !rst};
        completed <= completed + {29'd0, rst ? 3'd0 : completing};
        reads_open <= rst ? 0 : reads_open + {7'd0, ar_moves} - {7'd0, r_moves && m_axi_rlast};
        writes_open <= rst ? 0 : writes_open + {7'd0, aw_moves} - {7'd0, b_moves};
        if (reads_open > most_reads_open) most_reads_open <= reads_open;
        if (writes_open > most_writes_open) most_writes_open <= writes_open;

        if (aw_moves) begin
            announced[announced_head] <= {1'b0, m_axi_awlen} + 1;
            announced_head <= announced_head + 1;
        end
        if (w_moves) begin
            beats_sent <= m_axi_wlast ? 0 : beats_sent + 1;
            if (m_axi_wlast) begin
                sent[sent_head] <= beats_sent + 1;
                sent_head <= sent_head + 1;
            end
        end
        if (compared != announced_head && compared != sent_head) compared <= compared + 1;
        if (rst) {announced_head, sent_head, compared, beats_sent} <= 0;
    end

    initial begin
        {broken, cycle, written_cycle, irq_cycle, irq_rises, ar_bursts, r_beats, aw_bursts, w_beats} = 0;
        {silent_beats, responses, together, completed, reads_open, writes_open, most_reads_open, most_writes_open} = 0;
        {ar_held, aw_held, w_held, reset_before, irq_before, written_before} = 0;
        {announced_head, sent_head, compared, beats_sent} = 0;
    end
endmodule
