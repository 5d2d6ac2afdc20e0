# Makefile for overten_auth: what is built and installed.  test/targets.mk has
# everything else that make can do; make help lists it.

EXTENSION = overten_auth
MODULE_big = overten_auth
PGFILEDESC = "overten_auth - API keys and Firebase ID tokens"

# The directories of src/, each using only those above it (src/README.md).
TEXT_OBJS = $(addprefix src/text/, \
	base64url.o client_addr_text.o encoding.o json_string.o key_prefixes.o \
	networks.o rfc3339.o slots.o strict_json.o text_rules.o)
SERVER_OBJS = $(addprefix src/server/, \
	arguments.o audit.o clock.o digest.o interval_argument.o pgcrypto.o problem.o \
	random.o row_type.o secrecy.o single_row.o slot.o statement.o \
	wait_event.o)
DATABASES_OBJS = $(addprefix src/databases/, \
	databases.o worker_request.o worker_session.o)
LOOKUP_OBJS = $(addprefix src/lookup/, \
	cache.o invalidation.o key_cache.o revocation_commit.o shared_cache.o \
	shared_clock.o store.o tables.o)
STANDBY_OBJS = $(addprefix src/standby/, \
	primary_connection.o primary_session.o replayed.o staleness.o staleness_worker.o)
SEALING_OBJS = $(addprefix src/sealing/, \
	key_file_place.o master_key_file.o master_keys.o new_master_key.o sealing.o)
USAGE_OBJS = $(addprefix src/usage/, \
	add_uses.o batch_numbers.o client_addr.o event_counts.o flush_request.o http_clients.o recorder.o \
	sent_uses.o table_recorder.o unflushed_uses.o usage_cleaning.o usage_flush.o \
	usage_lock.o usage_rows.o use_arrays.o use_batches.o use_counters.o)
ORGS_OBJS = $(addprefix src/orgs/, \
	audit_pages.o org_list.o orgs.o)
LIMITS_OBJS = $(addprefix src/limits/, \
	bucket_memory.o buckets.o calendar.o limit_rows.o limit_use.o limits.o \
	limits_of_key.o quota_buckets.o quota_flush.o rate.o)
CREDITS_OBJS = $(addprefix src/credits/, \
	account.o balance.o credit_erasure.o holds.o ledger.o spending.o)
WEBHOOKS_OBJS = $(addprefix src/webhooks/, \
	reseal.o webhook_secret.o webhook_signature.o)
KEYS_OBJS = $(addprefix src/keys/, \
	admission.o allowed_addresses.o decision.o identity.o import.o key_anomalies.o \
	key_changes.o key_details.o key_grant.o key_history.o key_limits.o \
	key_list.o key_row.o key_scan.o key_text.o keys.o leaks.o list_text.o \
	minters.o org_anomalies.o org_usage.o purge.o restrictions.o rotation.o \
	rotation_progress.o verify.o)
MEMBERS_OBJS = $(addprefix src/members/, \
	acceptance.o choices.o erasure.o invitations.o locked_org.o members.o own_key.o \
	own_org.o repeated_request.o signup.o)
SIGNING_KEYS_OBJS = $(addprefix src/signing_keys/, \
	fetch.o fetch_answer.o fetch_command.o fetch_request.o fetch_schedule.o \
	fetch_state.o fetch_worker.o key_document.o key_flaws.o key_ring.o \
	signing_keys.o)
TOKENS_OBJS = $(addprefix src/tokens/, \
	claims.o firebase_token.o jwt_library.o token_decoder.o token_reader.o \
	token_rules.o)
HTTP_OBJS = $(addprefix src/http/, \
	audit_endpoint.o authorization.o credits_endpoint.o detail_members.o endpoints.o features_endpoint.o \
	http_client_addr.o http_request.o idempotency_key.o invitation_endpoints.o key_endpoints.o key_json.o \
	key_list_endpoint.o key_members.o limits_endpoint.o member_endpoints.o org_endpoints.o \
	org_usage_endpoint.o parameters.o postgrest.o postgrest_keys.o \
	postgrest_orgs.o query_string.o request_body.o request_headers.o \
	response_headers.o response_json.o response_row.o rotation_endpoints.o \
	usage_endpoint.o)
WORKERS_OBJS = $(addprefix src/workers/, \
	audit_cleaning.o database_jobs.o database_names.o database_worker.o launcher.o \
	standby_check.o)
ROOT_OBJS = $(addprefix src/, \
	check.o finish_script.o overten_auth.o settings.o status.o)

OBJS = $(TEXT_OBJS) $(SERVER_OBJS) $(DATABASES_OBJS) $(LOOKUP_OBJS) \
	$(STANDBY_OBJS) $(SEALING_OBJS) $(USAGE_OBJS) $(ORGS_OBJS) $(CREDITS_OBJS) $(WEBHOOKS_OBJS) \
	$(LIMITS_OBJS) $(KEYS_OBJS) $(MEMBERS_OBJS) $(SIGNING_KEYS_OBJS) $(TOKENS_OBJS) \
	$(HTTP_OBJS) $(WORKERS_OBJS) $(ROOT_OBJS)

# The folder of this file, which make -f may name; PGXS looks for DATA in there.
HERE := $(dir $(firstword $(MAKEFILE_LIST)))
DATA = $(patsubst $(HERE)%,%,$(wildcard $(HERE)sql/$(EXTENSION)--*.sql))

PG_CPPFLAGS = -I$(srcdir)/src -I$(libpq_srcdir)
SHLIB_LINK = -lcrypto -ldl $(libpq)

# Test input is in test/; pg_regress finds the expected output of both suites
# in expected/, because it looks in the output directory first.
REGRESS = key_text prefixes slots keys key_lists key_details rotation orgs credits erasure restrictions limits quotas names no_row webhooks usage added_uses privileges closing roles check http authorization http_keys http_orgs idempotency firebase identity leaks import half_done
REGRESS_OPTS = --inputdir=test --load-extension=pgcrypto
ISOLATION = revocation disabling limiting minting leak_response members invitations repeated_requests rotating spending erasing
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=pgcrypto
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

EXTRA_CLEAN = test/race/race test/faults/load test/modules/clock_shift.so test/modules/admissions.so test/modules/flush_pauses.so test/modules/lost_answers.so test/modules/relcache_faults.so test/modules/test_clock.so test/unit/fetch_answer

# Called once a statement, these functions gain nothing from being inlined by
# the JIT compiler.
override with_llvm = no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# Without the server's build files there is nothing to build, but the targets
# below install them; they all go on in a second make.
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
endif

# In a build directory of its own the compiler needs the directories of src/.
ifdef VPATH
$(shell mkdir -p $(sort $(dir $(OBJS))))
endif

# PGXS as packaged does not track header dependencies.
$(OBJS): $(wildcard $(HERE)src/*.h $(HERE)src/*/*.h)

# Not needed to build and install.
-include $(HERE)test/targets.mk
