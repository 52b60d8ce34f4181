/* What the harness needs of a board: yours to define. board.c has it for a desk, with standard input and output. */
#ifndef ${prefix}_BOARD_H
#define ${prefix}_BOARD_H

#include <stdint.h>

/* The next byte of the serial line, waited for; negative: there will be none. */
int board_read(void);

void board_write(char character);

/* A clock; it may wrap. In MLPerf Tiny's energy mode a pin is pulsed here. */
uint32_t board_microseconds(void);

#endif
