/* A board's serial line and clock: these are a desk's, and yours take their place. */
#include "board.h"

#include <stdio.h>
#include <time.h>

int board_read(void)
{
    (void)fflush(stdout);
    return getchar();
}

void board_write(char character)
{
    (void)putchar(character);
}

uint32_t board_microseconds(void)
{
    return (uint32_t)((double)clock() * (1e6 / CLOCKS_PER_SEC));
}
