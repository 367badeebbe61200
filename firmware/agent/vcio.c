/* SPDX-License-Identifier: Apache-2.0 */
/* One question to a VideoCore's firmware; see vcio.h. */
#include "vcio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define VCIO_PROPERTY _IOWR(100, 0, char *)

#define STATUS_DONE 0x80000000
#define ANSWERED 0x80000000 /* of a tag: the firmware knows it; below it the answer's length */

/* Where the words of a message are that holds one tag. */
enum { SIZE, STATUS, TAG, BUFFER_BYTES, ANSWER_BYTES, VALUES };

/* ---- the message ---- */

size_t vcio_question(uint32_t *message, uint32_t tag, const uint32_t *values, size_t count)
{
	size_t words = VALUES + count + 1; /* it ends with a tag of 0 */

	memset(message, 0, words * sizeof(*message));
	message[SIZE] = (uint32_t)(words * sizeof(*message));
	message[TAG] = tag;
	message[BUFFER_BYTES] = (uint32_t)(count * sizeof(*message));
	memcpy(&message[VALUES], values, count * sizeof(*message));
	return words;
}

/*
 * A firmware that does not know a tag leaves it as it is, and an emulated one answers it with no
 * bytes at all: either way the values are still those of the question.
 */
bool vcio_answers(const uint32_t *message, size_t words, uint32_t tag, size_t count)
{
	uint32_t bytes = (uint32_t)(count * sizeof(*message));

	return words == VALUES + count + 1 && message[STATUS] == STATUS_DONE &&
	       message[TAG] == tag && message[BUFFER_BYTES] == bytes &&
	       message[ANSWER_BYTES] >= (ANSWERED | bytes);
}

/* ---- the device ---- */

static bool is_socket(int fd)
{
	int type;
	socklen_t len = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0;
}

static int open_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(path);

	if (len >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, len);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address))) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd < 0 ? -errno : fd;
}

int vcio_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return errno == ENXIO ? open_socket(path) : -errno;
	return fd;
}

/* Not by ioctl(): the request has its top bit set, and C libraries disagree on its type. */
static bool exchange(int fd, uint32_t *message, size_t words)
{
	size_t size = words * sizeof(*message);

	if (!is_socket(fd))
		return syscall(SYS_ioctl, fd, VCIO_PROPERTY, message) == 0;
	return send(fd, message, size, MSG_NOSIGNAL) == (ssize_t)size &&
	       recv(fd, message, size, MSG_TRUNC) == (ssize_t)size;
}

bool vcio_ask(int fd, uint32_t tag, uint32_t *values, size_t count)
{
	uint32_t message[VCIO_MESSAGE_MAX];
	size_t words = vcio_question(message, tag, values, count);

	if (!exchange(fd, message, words) || !vcio_answers(message, words, tag, count))
		return false;
	memcpy(values, &message[VALUES], count * sizeof(*values));
	return true;
}
