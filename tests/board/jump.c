/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets the board's clock so many seconds ahead, or with a minus sign back: an image has no program
 * for that. It needs no library.
 */

#define CLOCK_REALTIME 0
#define SYS_CLOCK_SETTIME 112
#define SYS_CLOCK_GETTIME 113
#define SYS_EXIT 93

struct time {
	long seconds, nanoseconds;
};

static long call(long number, long a, void *b)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register void *x1 __asm__("x1") = b;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
	return x0;
}

static long number_of(const char *text)
{
	long number = 0;

	for (const char *at = *text == '-' ? text + 1 : text; *at; at++)
		number = 10 * number + *at - '0';
	return *text == '-' ? -number : number;
}

__attribute__((noreturn, used)) void jump(const long *stack)
{
	struct time now;
	long failed = stack[0] != 2 || call(SYS_CLOCK_GETTIME, CLOCK_REALTIME, &now);

	if (!failed) {
		now.seconds += number_of((const char *)stack[2]);
		failed = call(SYS_CLOCK_SETTIME, CLOCK_REALTIME, &now);
	}
	for (;;)
		call(SYS_EXIT, failed != 0, 0);
}

__asm__(".global _start\n_start:	mov x0, sp\n	b jump\n");
