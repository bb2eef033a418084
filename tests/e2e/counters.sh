# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Counters of mounts, summed over a test's mounts. To be sourced after lib.sh.
declare -A counters

counters_add()
{
	local name value
	while read -r name value; do
		case $name in
		usage.*) ;;
		*) counters[$name]=$((${counters[$name]:-0} + value)) ;;
		esac
	done < <("$bcfs" counters "$1")
}

counter_now()
{
	"$bcfs" counters "$1" | awk -v n="$2" '$1 == n { print $2 }'
}

counters_print()
{
	local name
	echo "# counters: $1"
	for name in "${!counters[@]}"; do
		echo "#   $name ${counters[$name]}"
	done | sort
}

counter_moved()
{
	[ "${counters[$1]:-0}" -gt 0 ]
}
