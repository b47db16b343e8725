// For Yosys' techmap: a multiplication of which both operands have at most 5 bits becomes a choice among the multiples
// of A for every two bits of B. On an FPGA it takes no DSP, of which an array's worth are not there; the multiples of
// an operand that several multiplications share are merged, so that an array takes fewer LUTs than of multipliers.
(* techmap_celltype = "$mul" *)
module narrow_multiplication (A, B, Y);
    parameter A_SIGNED = 0;
    parameter B_SIGNED = 0;
    parameter A_WIDTH = 1;
    parameter B_WIDTH = 1;
    parameter Y_WIDTH = 1;
    input [A_WIDTH-1:0] A;
    input [B_WIDTH-1:0] B;
    output [Y_WIDTH-1:0] Y;

    wire _TECHMAP_FAIL_ = A_WIDTH > 5 || B_WIDTH > 5;

    localparam DIGITS = (B_WIDTH + 1) / 2;
    wire [Y_WIDTH-1:0] once = {{Y_WIDTH{A_SIGNED ? A[A_WIDTH-1] : 1'b0}}, A};
    wire [Y_WIDTH-1:0] twice = once << 1;
    wire [2*DIGITS-1:0] digits = {{2{B_SIGNED ? B[B_WIDTH-1] : 1'b0}}, B};
    wire [Y_WIDTH*(DIGITS+1)-1:0] sums;
    assign sums[0+:Y_WIDTH] = {Y_WIDTH{1'b0}};
    assign Y = sums[Y_WIDTH*DIGITS+:Y_WIDTH];

    genvar digit;
    generate
        for (digit = 0; digit < DIGITS; digit = digit + 1) begin
            // The highest bit of a signed operand counts negative.
            localparam NEGATIVE = B_SIGNED && digit == DIGITS - 1;
            wire [1:0] place = digits[2*digit+:2];
            wire [Y_WIDTH-1:0] high = NEGATIVE ? (place[0] ? -once : -twice) : (place[0] ? once + twice : twice);
            wire [Y_WIDTH-1:0] multiple = place[1] ? high : place[0] ? once : {Y_WIDTH{1'b0}};
            assign sums[Y_WIDTH*(digit+1)+:Y_WIDTH] = sums[Y_WIDTH*digit+:Y_WIDTH] + (multiple << 2*digit);
        end
    endgenerate
endmodule

// A sum of two signed terms becomes a chain of carries by itself. Yosys would make one sum of all terms of an array's
// column, whose carry-save adders take two LUTs a bit and term: twice as many as chains, and slower.
(* techmap_celltype = "$add" *)
module sum_of_two (A, B, Y);
    parameter A_SIGNED = 0;
    parameter B_SIGNED = 0;
    parameter A_WIDTH = 1;
    parameter B_WIDTH = 1;
    parameter Y_WIDTH = 1;
    input [A_WIDTH-1:0] A;
    input [B_WIDTH-1:0] B;
    output [Y_WIDTH-1:0] Y;

    wire _TECHMAP_FAIL_ = !(A_SIGNED && B_SIGNED);

    wire [Y_WIDTH-1:0] differ, carries;
    \$alu #(
        .A_SIGNED(A_SIGNED), .B_SIGNED(B_SIGNED), .A_WIDTH(A_WIDTH), .B_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)
    ) _TECHMAP_REPLACE_ (.A(A), .B(B), .CI(1'b0), .BI(1'b0), .X(differ), .CO(carries), .Y(Y));
endmodule
