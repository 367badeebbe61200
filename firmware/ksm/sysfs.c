// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/mm/ksm: the knobs and the counters. Names, units and errors are mainline's;
 * what it lacks is marked.
 */
#include <linux/kobject.h>
#include <linux/sysfs.h>

#include "engine.h"

/* -- knobs that are a number and nothing more -------------------------------------------------- */

struct ksm_knob {
	struct kobj_attribute attr;
	unsigned int *value;
	unsigned int min;
	unsigned int max;	/* 0: none */
	bool boolean;
};

static ssize_t ksm_knob_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", *container_of(attr, struct ksm_knob, attr)->value);
}

static ssize_t ksm_knob_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			      size_t count)
{
	struct ksm_knob *knob = container_of(attr, struct ksm_knob, attr);
	unsigned int value;
	bool yes;

	if (knob->boolean) {
		if (kstrtobool(buf, &yes))
			return -EINVAL;
		value = yes;
	} else if (kstrtouint(buf, 10, &value) || value < knob->min ||
		   (knob->max && value > knob->max)) {
		return -EINVAL;
	}
	WRITE_ONCE(*knob->value, value);
	ksm_wake();	/* who may sleep for long, by what it knew */
	return count;
}

#define KSM_KNOB(_name, _value, _min, _boolean)						\
	static struct ksm_knob _name##_knob = {						\
		.attr = __ATTR(_name, 0644, ksm_knob_show, ksm_knob_store),		\
		.value = &(_value),							\
		.min = _min,								\
		.boolean = _boolean,							\
	}

KSM_KNOB(sleep_millisecs, ksm_knobs.sleep_ms, 0, false);
KSM_KNOB(use_zero_pages, ksm_knobs.use_zero_pages, 0, true);
KSM_KNOB(smart_scan, ksm_knobs.smart_scan, 0, true);
/* Ours: whether pages that were not written to since they were read are read again. */
KSM_KNOB(track_writes, ksm_knobs.track_writes, 0, true);
/* Ours: whether what gave no news is looked at in one pass of eight. */
KSM_KNOB(rank_areas, ksm_knobs.rank_areas, 0, true);
KSM_KNOB(stable_node_chains_prune_millisecs, ksm_knobs.prune_ms, 0, false);
/* From 2.6.32: how many merged pages there may be; 0: any number. Mainline has it no longer. */
KSM_KNOB(max_kernel_pages, ksm_knobs.max_kernel_pages, 0, false);
KSM_KNOB(advisor_max_cpu, ksm_advisor.max_cpu, 0, false);
KSM_KNOB(advisor_min_pages_to_scan, ksm_advisor.min_pages, 0, false);
KSM_KNOB(advisor_max_pages_to_scan, ksm_advisor.max_pages, 0, false);
KSM_KNOB(advisor_target_scan_time, ksm_advisor.target_s, 1, false);
/* Ours: what advisor_mode "budget" keeps to. */
KSM_KNOB(advisor_settle_ms, ksm_advisor.settle_ms, 1, false);
KSM_KNOB(advisor_idle_ms, ksm_advisor.idle_ms, 1, false);

static struct ksm_knob advisor_budget_permille_knob = {
	.attr = __ATTR(advisor_budget_permille, 0644, ksm_knob_show, ksm_knob_store),
	.value = &ksm_advisor.permille,
	.min = 1,
	.max = KSM_PERMILLE,
};

/* -- counters ---------------------------------------------------------------------------------- */

struct ksm_counter {
	struct kobj_attribute attr;
	const unsigned long *value;
};

static ssize_t ksm_counter_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lu\n", *container_of(attr, struct ksm_counter, attr)->value);
}

#define KSM_COUNTER(_name, _value)							\
	static struct ksm_counter _name##_counter = {					\
		.attr = __ATTR(_name, 0444, ksm_counter_show, NULL),			\
		.value = &(_value),							\
	}

KSM_COUNTER(pages_scanned, ksm_stat.scanned);
KSM_COUNTER(pages_shared, ksm_stat.shared);
KSM_COUNTER(pages_sharing, ksm_stat.sharing);
KSM_COUNTER(pages_unshared, ksm_stat.unshared);
KSM_COUNTER(pages_skipped, ksm_stat.skipped);
/* Ours: entries cleaned so that the next write shows, and writes that did. */
KSM_COUNTER(pages_cleaned, ksm_stat.cleaned);
KSM_COUNTER(pages_rewritten, ksm_stat.rewritten);
KSM_COUNTER(full_scans, ksm_cursor.scans);
/* Ours: a battery pays for each. */
KSM_COUNTER(ksmd_wakeups, ksm_stat.wakeups);
KSM_COUNTER(stable_node_chains, ksm_stat.chains);
KSM_COUNTER(stable_node_dups, ksm_stat.dups);

/* -- knobs with rules of their own ------------------------------------------------------------- */

static ssize_t pages_to_scan_store(struct kobject *kobj, struct kobj_attribute *attr,
				   const char *buf, size_t count)
{
	unsigned int pages;

	if (ksm_advisor.mode != KSM_ADVISOR_NONE || kstrtouint(buf, 10, &pages))
		return -EINVAL;
	WRITE_ONCE(ksm_knobs.pages_to_scan, pages);
	return count;
}

static struct ksm_knob pages_to_scan_knob = {
	.attr = __ATTR(pages_to_scan, 0644, ksm_knob_show, pages_to_scan_store),
	.value = &ksm_knobs.pages_to_scan,
};

/* Change what ksmd's records depend on. */
static ssize_t ksm_set_locked(int (*set)(unsigned int value), unsigned int value, size_t count)
{
	int err;

	mutex_lock(&ksm_lock);
	ksm_wait_while_offlining();
	err = set(value);
	mutex_unlock(&ksm_lock);
	ksm_wake();
	return err ?: count;
}

static int ksm_set_run(unsigned int run)
{
	int err = 0;

	if (ksm_run == run)
		return 0;
	ksm_run = run;
	if (run == KSM_RUN_UNMERGE)
		err = ksm_unmerge_all();
	if (err)
		ksm_run = KSM_RUN_STOP;
	return err;
}

static ssize_t run_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			 size_t count)
{
	unsigned int run;

	if (kstrtouint(buf, 10, &run) || run > KSM_RUN_UNMERGE)
		return -EINVAL;
	return ksm_set_locked(ksm_set_run, run, count);
}

static struct ksm_counter run_knob = {
	.attr = __ATTR(run, 0644, ksm_counter_show, run_store),
	.value = &ksm_run,
};

/* What merged pages were made by can only change while there are none. */
static int ksm_set_unmerged(unsigned int *knob, unsigned int value)
{
	if (*knob == value)
		return 0;
	if (ksm_stat.shared || ksm_stable_clear())
		return -EBUSY;
	WRITE_ONCE(*knob, value);
	return 0;
}

static int ksm_set_sharing(unsigned int sharing)
{
	return ksm_set_unmerged(&ksm_knobs.max_sharing, sharing);
}

static ssize_t max_page_sharing_store(struct kobject *kobj, struct kobj_attribute *attr,
				      const char *buf, size_t count)
{
	int sharing, err = kstrtoint(buf, 10, &sharing);

	if (err)
		return err;
	if (sharing < 2)
		return -EINVAL;
	return ksm_set_locked(ksm_set_sharing, sharing, count);
}

static struct ksm_knob max_page_sharing_knob = {
	.attr = __ATTR(max_page_sharing, 0644, ksm_knob_show, max_page_sharing_store),
	.value = &ksm_knobs.max_sharing,
};

#ifdef CONFIG_NUMA
static int ksm_set_across_nodes(unsigned int across)
{
	return ksm_set_unmerged(&ksm_knobs.across_nodes, across);
}

static ssize_t merge_across_nodes_store(struct kobject *kobj, struct kobj_attribute *attr,
					const char *buf, size_t count)
{
	unsigned long across;
	int err = kstrtoul(buf, 10, &across);

	if (err)
		return err;
	if (across > 1)
		return -EINVAL;
	return ksm_set_locked(ksm_set_across_nodes, across, count);
}

static struct ksm_knob merge_across_nodes_knob = {
	.attr = __ATTR(merge_across_nodes, 0644, ksm_knob_show, merge_across_nodes_store),
	.value = &ksm_knobs.across_nodes,
};
#endif

/* A knob that is one of several words: show them all, the one in force in brackets. */
static ssize_t ksm_show_choice(char *buf, const char * const *words, int count, int chosen)
{
	int i, length = 0;

	for (i = 0; i < count; i++)
		length += sysfs_emit_at(buf, length, i == chosen ? "[%s] " : "%s ", words[i]);
	buf[length - 1] = '\n';
	return length;
}

static const char * const ksm_domains[] = {
	"all",
#ifdef CONFIG_MEMCG
	"uid",
	"cgroup",
#endif
};

/* Ours: whose pages may be merged with each other. */
static ssize_t merge_domain_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return ksm_show_choice(buf, ksm_domains, ARRAY_SIZE(ksm_domains), ksm_knobs.domains);
}

/* Nothing may stay merged as it was. Who forks meanwhile is come to before the end. */
static int ksm_set_domains(unsigned int domains)
{
	unsigned long run = ksm_run;
	int err;

	if (ksm_knobs.domains == domains)
		return 0;
	ksm_run = KSM_RUN_UNMERGE;
	err = ksm_unmerge_all();
	ksm_run = run;
	return err ?: ksm_set_unmerged(&ksm_knobs.domains, domains);
}

static ssize_t merge_domain_store(struct kobject *kobj, struct kobj_attribute *attr,
				  const char *buf, size_t count)
{
	int domains = sysfs_match_string(ksm_domains, buf);

	return domains < 0 ? domains : ksm_set_locked(ksm_set_domains, domains, count);
}

static struct kobj_attribute merge_domain_attr = __ATTR_RW(merge_domain);

/* "budget" is ours. */
static const char * const ksm_advisor_modes[] = { "none", "scan-time", "budget" };

static ssize_t advisor_mode_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return ksm_show_choice(buf, ksm_advisor_modes, ARRAY_SIZE(ksm_advisor_modes),
			       READ_ONCE(ksm_advisor.mode));
}

static ssize_t advisor_mode_store(struct kobject *kobj, struct kobj_attribute *attr,
				  const char *buf, size_t count)
{
	int mode = sysfs_match_string(ksm_advisor_modes, buf);

	return mode < 0 ? mode : ksm_set_locked(ksm_advisor_set_mode, mode, count);
}

static struct kobj_attribute advisor_mode_attr = __ATTR_RW(advisor_mode);

/* -- counters that are reckoned ---------------------------------------------------------------- */

static ssize_t pages_volatile_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	long pages = ksm_stat.items - ksm_stat.shared - ksm_stat.sharing - ksm_stat.unshared;

	/* The four are not read at one instant. */
	return sysfs_emit(buf, "%ld\n", max(pages, 0L));
}

static struct kobj_attribute pages_volatile_attr = __ATTR_RO(pages_volatile);

static ssize_t ksm_zero_pages_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%ld\n", atomic_long_read(&ksm_zero_pages));
}

static struct kobj_attribute ksm_zero_pages_attr = __ATTR_RO(ksm_zero_pages);

/* What the engine takes for its records, in bytes. */
static long ksm_metadata(void)
{
	return ksm_stat.slots * sizeof(struct ksm_slot) +
	       ksm_stat.blocks * sizeof(struct ksm_block) +
	       ksm_stat.nodes * sizeof(struct ksm_node);
}

/* Ours. */
static ssize_t metadata_bytes_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%ld\n", ksm_metadata());
}

static struct kobj_attribute metadata_bytes_attr = __ATTR_RO(metadata_bytes);

/* In bytes: what merging saves, less what all the engine's records take. */
static ssize_t general_profit_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	long saved = (ksm_stat.sharing + atomic_long_read(&ksm_zero_pages)) * PAGE_SIZE;

	return sysfs_emit(buf, "%ld\n", saved - ksm_metadata());
}

static struct kobj_attribute general_profit_attr = __ATTR_RO(general_profit);

static struct attribute *ksm_attrs[] = {
	&run_knob.attr.attr,
	&pages_to_scan_knob.attr.attr,
	&sleep_millisecs_knob.attr.attr,
	&max_kernel_pages_knob.attr.attr,
	&max_page_sharing_knob.attr.attr,
	&stable_node_chains_prune_millisecs_knob.attr.attr,
#ifdef CONFIG_NUMA
	&merge_across_nodes_knob.attr.attr,
#endif
	&merge_domain_attr.attr,
	&use_zero_pages_knob.attr.attr,
	&smart_scan_knob.attr.attr,
	&track_writes_knob.attr.attr,
	&rank_areas_knob.attr.attr,
	&advisor_mode_attr.attr,
	&advisor_max_cpu_knob.attr.attr,
	&advisor_min_pages_to_scan_knob.attr.attr,
	&advisor_max_pages_to_scan_knob.attr.attr,
	&advisor_target_scan_time_knob.attr.attr,
	&advisor_budget_permille_knob.attr.attr,
	&advisor_settle_ms_knob.attr.attr,
	&advisor_idle_ms_knob.attr.attr,
	&pages_scanned_counter.attr.attr,
	&pages_shared_counter.attr.attr,
	&pages_sharing_counter.attr.attr,
	&pages_unshared_counter.attr.attr,
	&pages_volatile_attr.attr,
	&pages_skipped_counter.attr.attr,
	&pages_cleaned_counter.attr.attr,
	&pages_rewritten_counter.attr.attr,
	&ksm_zero_pages_attr.attr,
	&full_scans_counter.attr.attr,
	&ksmd_wakeups_counter.attr.attr,
	&stable_node_chains_counter.attr.attr,
	&stable_node_dups_counter.attr.attr,
	&metadata_bytes_attr.attr,
	&general_profit_attr.attr,
	NULL,
};

static const struct attribute_group ksm_attr_group = {
	.attrs = ksm_attrs,
	.name = "ksm",
};

int __init ksm_sysfs_init(void)
{
	return sysfs_create_group(mm_kobj, &ksm_attr_group);
}
