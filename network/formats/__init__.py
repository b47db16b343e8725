"""A reader for each format of networks; some have a writer, too. `intaglio.network.load` tells them apart."""
