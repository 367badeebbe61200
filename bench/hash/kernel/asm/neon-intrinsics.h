/* SPDX-License-Identifier: Apache-2.0 */
#include <arm_neon.h>
