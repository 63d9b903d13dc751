"""Can an explanation be trusted? Whether it depends on what the network learned, and on what the score depends on."""
