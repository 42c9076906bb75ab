# The state file of a run on the target, and what the host runs, boots and has as its profile. Between units.sh and
# supervisor.sh, whose variables and "alone" it uses.
# shellcheck disable=SC2317,SC2154,SC2034

s_state='' s_since=0 s_generation_before='' s_switch_status='' s_revert_status='' s_boot_status=''
s_switch_timed_out='' s_nonce='' s_answer='' s_reasons='' s_settled='' s_rebooting='' s_effective=''
s_running0='' s_profile0='' s_boot0='' s_loader0='' s_generation0='' s_once0='' s_cleared=''
running='' profile='' generation='' loader='' boot='' once=''

# Written beside and renamed: a reader sees the old one or the new one, and where there is no room the old one stays.
save() {
	read -r up _ </proc/uptime
	{
		printf 'state=%s\nrun=%s\ntarget=%s\ncommit=%s\nwho=%s\n' "$s_state" "$p_run" "$p_target" "$p_commit" "$p_who" &&
			printf 'since=%s\nchanged=%s\n' "$s_since" "$((booted_at + ${up%.*}))" &&
			printf 'candidate=%s\nprevious=%s\neffective=%s\n' "$p_candidate" "$p_previous" "$s_effective" &&
			printf 'running=%s\nprofile=%s\ngeneration=%s\n' "$running" "$profile" "$generation" &&
			printf 'boot_loader=%s\nboot_default=%s\nboot_once=%s\n' "$loader" "$boot" "$once" &&
			printf 'once0=%s\ncleared=%s\n' "$s_once0" "$s_cleared" &&
			printf 'running0=%s\nprofile0=%s\nboot0=%s\nloader0=%s\ngeneration0=%s\n' \
				"$s_running0" "$s_profile0" "$s_boot0" "$s_loader0" "$s_generation0" &&
			printf 'generation_before=%s\n' "$s_generation_before" &&
			printf 'switch_status=%s\nrevert_status=%s\nboot_status=%s\n' \
				"$s_switch_status" "$s_revert_status" "$s_boot_status" &&
			printf 'switch_timed_out=%s\n' "$s_switch_timed_out" &&
			printf 'nonce=%s\nanswer=%s\nsettled=%s\nrebooting=%s\n' "$s_nonce" "$s_answer" "$s_settled" "$s_rebooting" &&
			printf '%s' "$s_reasons"
	} >"$dir/state.new" 9>&- && alone mv -f "$dir/state.new" "$dir/state"
}

# Room on /run for what a way back writes: the link to the running system, units, the state. Kept from the beginning,
# because somebody may have filled /run by then; given back when it is needed.
make_room() { [ ! -e "$dir/reserve" ] || alone rm -f "$dir/reserve"; }
keep_room() { alone head -c 1048576 /dev/zero >"$dir/reserve" 9>&-; }

# Reads back what recovery needs.
load() {
	[ -r "$dir/state" ] || return 1
	while IFS='=' read -r k v; do
		case $k in
		state) s_state=$v ;;
		since) s_since=$v ;;
		effective) s_effective=$v ;;
		running0) s_running0=$v ;;
		profile0) s_profile0=$v ;;
		boot0) s_boot0=$v ;;
		loader0) s_loader0=$v ;;
		once0) s_once0=$v ;;
		cleared) s_cleared=$v ;;
		generation0) s_generation0=$v ;;
		generation_before) s_generation_before=$v ;;
		switch_status) s_switch_status=$v ;;
		revert_status) s_revert_status=$v ;;
		boot_status) s_boot_status=$v ;;
		switch_timed_out) s_switch_timed_out=$v ;;
		nonce) s_nonce=$v ;;
		answer) s_answer=$v ;;
		rebooting) s_rebooting=$v ;;
		reason) reason "$v" ;;
		esac
	done <"$dir/state"
	[ -n "$s_state" ]
}

# Said twice, it stands there once.
reason() {
	case "
$s_reasons" in *"
reason=$1
"*) return ;; esac
	s_reasons="${s_reasons}reason=$1
"
}

# Running system, profile, boot default and what boots once, now.
look() {
	systems 3>&- 7>&- 8>&- 9>&-
	loader=$(alone boot_default)
	boot=${loader#* } loader=${loader%% *}
	once=$(alone boot_once)
}
