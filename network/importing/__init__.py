"""What every importer of a format needs, and what no two of them may do differently.

`builder` collects tensors and layers, `scales` turns real scales into multipliers and ranges, `axes` and `windows` work
on shapes, `folding` on constants, `edges` finds what is the host's at the network's ends, `naming` keeps names apart,
`refusals` collects all that a file is refused for into one message, `limits` says how much a file may ask for.
"""
