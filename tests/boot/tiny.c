/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a slot holds in tests of the boot loader, in place of a kernel: it says on the UART of QEMU
 * virt what command line it was started with and whether the watchdog runs, then switches the
 * board off. With "hang" in its command line it does what its name says.
 */

#define UART ((volatile unsigned int *)0x9000000)
#define WATCHDOG_LOCK ((volatile unsigned char *)0x4010008068) /* PCI device 1, register 0x68 */
#define PSCI_SYSTEM_OFF 0x84000008

__asm__(".section .head,\"ax\"\n"
	"	b start\n"
	"	.word 0\n"
	"	.quad 0\n"	 /* at any multiple of 2 MiB */
	"	.quad 0x20000\n" /* with its stack */
	"	.quad 0xa\n"
	"	.quad 0, 0, 0\n"
	"	.ascii \"ARM\\x64\"\n"
	"	.word 0\n"
	"start:	adr x1, start\n"
	"	add x1, x1, #0x10, lsl #12\n"
	"	mov sp, x1\n"
	"	bl tiny\n");

static void put(const char *text)
{
	for (; *text; text++)
		*UART = (unsigned char)*text;
}

static const char *find(const char *in, const char *end, const char *what)
{
	for (; in < end; in++) {
		int i = 0;

		while (what[i] && in[i] == what[i])
			i++;
		if (!what[i])
			return in;
	}
	return 0;
}

/* The command line begins with "tiny" and ends with a zero: no need to understand the tree. */
__attribute__((used, noreturn)) void tiny(const unsigned char *tree)
{
	const char *at = (const char *)tree;
	const char *end = at + (tree[5] << 16 | tree[6] << 8 | tree[7]);
	const char *line = find(at, end, "tiny-");

	put("\nstarted: ");
	put(line ? line : "without a command line");
	put(*WATCHDOG_LOCK & 2 ? " (watched)\n" : "\n");
	while (line && find(line, line + 16, "hang"))
		__asm__ volatile("wfi");
	__asm__ volatile("mov w0, %w0\n\thvc #0" : : "r"(PSCI_SYSTEM_OFF) : "x0");
	for (;;)
		;
}
