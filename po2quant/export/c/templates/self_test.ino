/* Blinks slowly if all outputs of the test vectors are right, fast if one differs. */
#include <$name.h>

extern "C" int32_t ${name}_self_test(void);

static int pause_ms;

void setup()
{
    pinMode(LED_BUILTIN, OUTPUT);
    pause_ms = ${name}_self_test() == 0 ? 1000 : 100;
}

void loop()
{
    digitalWrite(LED_BUILTIN, HIGH);
    delay(pause_ms);
    digitalWrite(LED_BUILTIN, LOW);
    delay(pause_ms);
}
