// SPDX-License-Identifier: GPL-2.0-only
/*
 * Merge domains: with the knob merge_domain only pages of one user, or of one cgroup, are merged
 * with each other. Then no time that a write takes tells a process what others outside its domain
 * hold.
 *
 * A process is in the domain of its thread group leader: of its effective user, or of its cgroup in
 * the unified hierarchy. That is looked up when ksmd comes to the process, once in each pass. After
 * a change the process starts anew, and what it has merged with its old domain is given up page by
 * page as ksmd meets it (ksm_visit_merged()), within that pass.
 */
#include <linux/cgroup.h>
#include <linux/cred.h>

#include "engine.h"

/* A process that is ending may have no leader any more: it stays where it was. */
static u32 ksm_domain_of(struct ksm_slot *slot)
{
	struct task_struct *leader;
	u32 domain = ksm_knobs.domains == KSM_DOMAIN_ALL ? 0 : slot->domain;

	rcu_read_lock();
	leader = rcu_dereference(slot->slot.mm->owner);
	if (leader && ksm_knobs.domains == KSM_DOMAIN_UID)
		domain = from_kuid(&init_user_ns, task_cred_xxx(leader, euid));
	else if (leader && ksm_knobs.domains == KSM_DOMAIN_CGROUP)
		domain = cgroup_ino(task_dfl_cgroup(leader));
	rcu_read_unlock();
	return domain;
}

/**
 * ksm_domain_enter - ksmd comes to a process: see which domain it is in now
 * @b: with the process; the cursor stands at its start, its mmap_lock is held
 *
 * Return: false if it is in another, and more records are left to drop than one hold may.
 */
bool ksm_domain_enter(struct ksm_batch *b)
{
	u32 domain = ksm_domain_of(b->slot);

	if (domain == b->slot->domain)
		return true;
	if (ksm_gather_forget(b, 0, ULONG_MAX) != ULONG_MAX)
		return false;
	b->slot->domain = domain;
	return true;
}
