// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/vcio: root may ask the firmware of a Raspberry Pi's VideoCore.
 *
 * The interface is that of the driver in Raspberry Pi's own kernels: one ioctl takes a message of
 * the mailbox property channel and puts the answers where the questions were. That driver passes on
 * whatever it is given, and the firmware writes memory, sets clocks and burns fuses when told to.
 * This one knows which tags only ask, and refuses a message that holds any other.
 *
 * A message, in words: its size in bytes, a status, tags, 0. A tag: its number, the size in bytes
 * of its values, a word in which bit 31 and the length of the answer come back, its values.
 *
 * The firmware's driver takes one message at a time and gives it up after a second, or waits for
 * longer if the mailbox itself is full, and neither wait can be interrupted: whoever must not be
 * held up should leave the asking to another process.
 */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/ioctl.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <soc/bcm2835/raspberrypi-firmware.h>

#define VCIO_PROPERTY	_IOWR(100, 0, char *)

#define VCIO_HEAD_WORDS	2
#define VCIO_TAG_WORDS	3
#define VCIO_MIN_BYTES	((VCIO_HEAD_WORDS + VCIO_TAG_WORDS + 1) * sizeof(u32))
#define VCIO_MAX_BYTES	1024

static const u32 vcio_questions[] = {
	RPI_FIRMWARE_GET_FIRMWARE_REVISION,
	RPI_FIRMWARE_GET_BOARD_MODEL,
	RPI_FIRMWARE_GET_BOARD_REVISION,
	RPI_FIRMWARE_GET_BOARD_SERIAL,
	RPI_FIRMWARE_GET_ARM_MEMORY,
	RPI_FIRMWARE_GET_VC_MEMORY,
	RPI_FIRMWARE_GET_CLOCK_STATE,
	RPI_FIRMWARE_GET_CLOCK_RATE,
	RPI_FIRMWARE_GET_CLOCK_MEASURED,
	RPI_FIRMWARE_GET_MAX_CLOCK_RATE,
	RPI_FIRMWARE_GET_MIN_CLOCK_RATE,
	RPI_FIRMWARE_GET_VOLTAGE,
	RPI_FIRMWARE_GET_MAX_VOLTAGE,
	RPI_FIRMWARE_GET_MIN_VOLTAGE,
	RPI_FIRMWARE_GET_TEMPERATURE,
	RPI_FIRMWARE_GET_MAX_TEMPERATURE,
	RPI_FIRMWARE_GET_TURBO,
	RPI_FIRMWARE_GET_THROTTLED,
};

struct vcio {
	struct miscdevice misc;
	struct rpi_firmware *firmware;
};

static bool vcio_is_question(u32 tag)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(vcio_questions); i++)
		if (vcio_questions[i] == tag)
			return true;
	return false;
}

/**
 * vcio_check() - look through a message's tags, before anything of it is passed on
 * @message: the message
 * @words: its length
 *
 * The word for the answer of each tag is cleared, so that what comes back in it is the firmware's.
 *
 * Return: the tags' size in bytes, or a negative errno: -EPERM for a tag that is not on the list,
 * -EINVAL for a message that does not hold what it says.
 */
static ssize_t vcio_check(u32 *message, size_t words)
{
	size_t at = VCIO_HEAD_WORDS;

	while (at < words && message[at]) {
		u32 bytes;

		if (words - at < VCIO_TAG_WORDS)
			return -EINVAL;
		if (!vcio_is_question(message[at]))
			return -EPERM;
		bytes = message[at + 1];
		if (!IS_ALIGNED(bytes, sizeof(u32)) ||
		    bytes / sizeof(u32) > words - at - VCIO_TAG_WORDS)
			return -EINVAL;
		message[at + 2] = 0;
		at += VCIO_TAG_WORDS + bytes / sizeof(u32);
	}
	if (at == VCIO_HEAD_WORDS || at >= words)
		return -EINVAL;
	return (at - VCIO_HEAD_WORDS) * sizeof(u32);
}

static int vcio_ask(struct vcio *vcio, u32 *message, u32 size)
{
	ssize_t tags = vcio_check(message, size / sizeof(u32));
	int err;

	if (tags < 0)
		return tags;
	err = rpi_firmware_property_list(vcio->firmware, message + VCIO_HEAD_WORDS, tags);
	if (err)
		return err;
	message[0] = size;
	message[1] = RPI_FIRMWARE_STATUS_SUCCESS;
	return 0;
}

static long vcio_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct vcio *vcio = container_of(file->private_data, struct vcio, misc);
	void __user *user = (void __user *)argument;
	u32 *message, size;
	long err;

	if (command != VCIO_PROPERTY)
		return -ENOTTY;
	if (copy_from_user(&size, user, sizeof(size)))
		return -EFAULT;
	if (size < VCIO_MIN_BYTES || size > VCIO_MAX_BYTES || !IS_ALIGNED(size, sizeof(u32)))
		return -EINVAL;
	message = memdup_user(user, size);
	if (IS_ERR(message))
		return PTR_ERR(message);
	err = vcio_ask(vcio, message, size);
	if (!err && copy_to_user(user, message, size))
		err = -EFAULT;
	kfree(message);
	return err;
}

static const struct file_operations vcio_operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vcio_ioctl,
};

static int vcio_probe(struct platform_device *pdev)
{
	struct device_node *node = rpi_firmware_find_node();
	struct device *dev = &pdev->dev;
	struct vcio *vcio;

	vcio = devm_kzalloc(dev, sizeof(*vcio), GFP_KERNEL);
	if (vcio)
		vcio->firmware = devm_rpi_firmware_get(dev, node);
	of_node_put(node);
	if (!vcio)
		return -ENOMEM;
	if (!vcio->firmware)
		return -EPROBE_DEFER; /* its driver has not found the mailbox yet */
	vcio->misc.minor = MISC_DYNAMIC_MINOR;
	vcio->misc.name = "vcio";
	vcio->misc.mode = 0600;
	vcio->misc.parent = dev;
	vcio->misc.fops = &vcio_operations;
	return misc_register(&vcio->misc);
}

static struct platform_driver vcio_driver = {
	.probe = vcio_probe,
	.driver = {
		.name = "vcio",
		.suppress_bind_attrs = true,
	},
};

/* The tree has a node for the firmware, but none for those who ask it. */
static int __init vcio_init(void)
{
	struct device_node *node = rpi_firmware_find_node();
	struct platform_device *pdev;
	int err;

	if (!node)
		return 0;
	of_node_put(node);
	err = platform_driver_register(&vcio_driver);
	if (err)
		return err;
	pdev = platform_device_register_simple("vcio", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(pdev)) {
		platform_driver_unregister(&vcio_driver);
		return PTR_ERR(pdev);
	}
	return 0;
}
device_initcall(vcio_init);
