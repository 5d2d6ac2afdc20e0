# lib.sh
#
# What the parts of "make bench" share; sourced by them, and run by
# test/with-server.  A part prints its section in Markdown on stdout and its
# progress on stderr.
#
# ROUNDS and SECONDS_EACH set how often and how long each case is measured; a
# part has defaults of its own.  BENCH_CHART may name a file that bars of the
# chart are appended to.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scripts=$SCRATCH/scripts
results=$SCRATCH/results
mkdir -p "$scripts"

say()
{
	echo "$*" >&2
}

query()
{
	psql -XqAt -v ON_ERROR_STOP=1 "$@"
}

# A number with commas, as 1,000,000.
commas()
{
	sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta' <<<"$1"
}

# "1 client", "2 clients".
clients_text()
{
	echo "$1 client$([ "$1" -eq 1 ] || echo s)"
}

# Of the numbers on stdin.
median()
{
	sort -g | awk '{v[NR] = $1} END {print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2}'
}

# SQL for a random one of the first :range keys, as pgbench has drawn :id.
secret="'sk_live_000000000' || (1000000000000000000 + :id)"

# The look-up that one would write by hand, of the secret that an SQL
# expression gives.
join_of()
{
	echo "SELECT k.key_id, k.org_id, o.name, o.tier, o.webhook_secret_sealed, k.prefix
		FROM overten_auth.api_keys k JOIN overten_auth.orgs o ON o.org_id = k.org_id
		WHERE k.digest = sha256(convert_to($1, 'UTF8'))
		AND k.revoked_at IS NULL AND o.suspended_at IS NULL"
}

# write_script NAME QUERY [DRAW]: what pgbench runs, with :id drawn by an
# expression, uniformly unless said.
write_script()
{
	printf '\\set id %s\n%s;\n' "${3:-random(1, :range)}" "$2" >"$scripts/$1"
}

# write_verifying_scripts [SUFFIX [DRAW]]: the three that are compared almost
# everywhere, with a suffix to their names.
write_verifying_scripts()
{
	write_script "select_1${1:-}" 'SELECT :id' "${2:-}"
	write_script "join${1:-}" "$(join_of "$secret")" "${2:-}"
	write_script "verify${1:-}" "SELECT * FROM overten_verify_key($secret)" "${2:-}"
}

# tps NAME CLIENTS [OPTION...]: transactions a second of a script by pgbench.
# Uses are recorded only where RECORD is on.  Many clients get more time, for
# that in which they connect counts, too.
tps()
{
	local name=$1 clients=$2
	shift 2

	PGOPTIONS="-c overten_auth.record_use_without_preload=${RECORD:-off}" \
	pgbench -n -M prepared -c "$clients" -j $((clients < 2 ? clients : 2)) -T $((seconds + clients / 32)) \
		-f "$scripts/$name" "$@" 2>"$SCRATCH/pgbench.log" | awk '/^tps/ {print $3}'
	! grep -i error "$SCRATCH/pgbench.log" >&2
}

# warm LAST: verify the keys 1 to LAST once, so that a shared cache has them.
warm()
{
	query -v last="$1" >/dev/null <<-'END'
		SET overten_auth.record_use_without_preload = off;
		SELECT count(*)
		FROM generate_series(1, :last) i, overten_verify_key('sk_live_000000000' || 1000000000000000000 + i);
	END
}

# in_turn TITLE CASE...: have the part's function measure() print a number for
# each case, in turn in each round.
in_turn()
{
	local title=$1 round name
	shift

	rm -rf "$results"
	mkdir -p "$results"
	for ((round = 1; round <= rounds; round++)); do
		say "  $title: round $round of $rounds"
		for name in "$@"; do
			measure "$name" >>"$results/$name"
		done
	done
}

# Of the rounds of a case.
result()
{
	median <"$results/$1"
}

# Each round's ratio of a case to another, and their median: the machine is not
# the same from one round to the next.
ratios()
{
	paste "$results/$1" "$results/$2" | awk '{print $1 / $2}'
}

ratio()
{
	ratios "$1" "$2" | median
}

# table COLUMN...: the head of a table, all columns but the first to the right.
table()
{
	local column line='|---|'

	printf '\n|'
	printf ' %s |' "$@"
	for column in "${@:2}"; do
		line+='---:|'
	done
	printf '\n%s\n' "$line"
}

row()
{
	printf '|'
	printf ' %s |' "$@"
	printf '\n'
}

# A number with so many digits after the point, or a rate without any.
fixed()
{
	printf '%.*f' "$1" "$2"
}

rate()
{
	commas "$(fixed 0 "$1")"
}

# How a part measured, in a sentence.
method()
{
	echo "Rounds: $rounds, with $seconds s for each case, in turn; medians, of the ratios too."
}

# bar PANEL LABEL RATIO: a bar of the chart.  What is said in panel and label is
# plain text.
bar()
{
	[ -z "${BENCH_CHART:-}" ] || printf '%s\t%s\t%s\n' "$@" | tr -d '`' >>"$BENCH_CHART"
}
