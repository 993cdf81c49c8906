// The echo service of udp_echo.cc that also does what a lockstep guest must not do: at each turn of
// its loop it reads the time-stamp counter and lets it into its memory, until a datagram `calm`
// comes. Console, then: `udp_restless: calm`.
#define ANTIPODE_RESTLESS
#include "tests/guests/udp_echo.cc"
