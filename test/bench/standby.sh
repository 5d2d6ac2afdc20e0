# standby.sh
#
# Standbys of the server that the environment names, for the parts of "make
# bench"; sourced by them after lib.sh.

# make_standby NAME: copy the server.  Its files and its socket are in a folder of that name.
make_standby()
{
	pg_basebackup -D "$SCRATCH/$1" -c fast -R
	echo "unix_socket_directories = '$SCRATCH/$1'" >>"$SCRATCH/$1/postgresql.conf"
}

# start_standby NAME
start_standby()
{
	pg_ctl -D "$SCRATCH/$1" -l "$SCRATCH/$1.log" -w start >/dev/null
}

# stop_standbys NAME...: also those that are not running.
stop_standbys()
{
	local name
	for name in "$@"; do
		[ ! -e "$SCRATCH/$name/postmaster.pid" ] || pg_ctl -D "$SCRATCH/$name" -m immediate -w stop >/dev/null
	done
}

# wait_verifies NAME: until the standby is within its bound, or has none.
wait_verifies()
{
	local tries
	for ((tries = 0; tries < 600; tries++)); do
		if [ "$(query -h "$SCRATCH/$1" -c 'SELECT coalesce(standby_age <= standby_bound, standby_bound IS NULL) FROM overten_stat' 2>/dev/null)" = t ]; then
			return
		fi
		sleep 0.1
	done
	say "standby $1 does not verify"
	return 1
}
