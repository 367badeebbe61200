/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings applied once, before anybody is served: lines KNOB=VALUE, comments after #, in the order
 * of the file (docs/TUNE.md). The build has checked ours; somebody else's is taken as it comes. A
 * line that is wrong or refused is told in the log, and the next one is tried.
 */
#ifndef KSMHOST_BOOT_SETTINGS_H
#define KSMHOST_BOOT_SETTINGS_H

#define BOOT_SETTINGS_MAX 4096 /* bytes of the file that are read */

/* Returns how many lines were applied; 0 without a file. */
int boot_settings_apply(const char *path, const char *ksm_dir);

#endif
