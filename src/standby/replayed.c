/*
 * replayed.c
 *		Has everything that ends at or before a position been replayed?
 *
 * The position is where a primary has flushed its WAL, which can be in the
 * middle of a record: PostgreSQL flushes whole pages in the background.  The
 * rest of that record can be long in coming when the primary is idle, so the
 * replay position does not reach that place.  The record ends later, so all
 * records that end before have been replayed as soon as it is the next one.
 *
 * To see that, we read where that record ends, in the WAL that the WAL receiver
 * has written.  If the primary has crashed, it does not have the rest of the
 * record, and other records begin on the page after it.  That page then does
 * not say that it continues the record, so we check each page that the record
 * should be on.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "replication/walreceiver.h"
#include "storage/fd.h"

#include "standby/staleness.h"

/*
 * Read WAL that was received.  The bytes are on one page.  Returns false if
 * they cannot be read.
 */
static bool
read_wal(XLogRecPtr at, TimeLineID timeline, void *to, size_t size)
{
	char		path[MAXPGPATH];
	XLogSegNo	segment;
	ssize_t		count;
	int			file;

	XLByteToSeg(at, segment, wal_segment_size);
	XLogFilePath(path, timeline, segment, wal_segment_size);
	file = BasicOpenFile(path, O_RDONLY | PG_BINARY);
	if (file < 0)
		return false;
	count = pread(file, to, size, XLogSegmentOffset(at, wal_segment_size));
	close(file);
	return count == (ssize_t) size;
}

static uint32
header_size(XLogRecPtr page)
{
	return XLogSegmentOffset(page, wal_segment_size) == 0 ?
		SizeOfXLogLongPHD : SizeOfXLogShortPHD;
}

/* Does the page say that it begins with so many bytes of a record? */
static bool
continues_record(XLogRecPtr page, TimeLineID timeline, uint32 left)
{
	XLogPageHeaderData header;

	return read_wal(page, timeline, &header, sizeof(header)) &&
		header.xlp_pageaddr == page &&
		(header.xlp_info & XLP_FIRST_IS_CONTRECORD) != 0 &&
		header.xlp_rem_len == left;
}

/*
 * Does the record that begins at "start" end after "lsn"?  All WAL before "lsn"
 * has been received.
 */
static bool
ends_later(XLogRecPtr start, XLogRecPtr lsn, TimeLineID timeline)
{
	uint32		left;			/* of the record, from "start" */

	if (start % XLOG_BLCKSZ == 0)
		start += header_size(start);
	if (lsn < start + sizeof(left) ||
		!read_wal(start, timeline, &left, sizeof(left)) ||
		left < SizeOfXLogRecord)
		return false;

	for (;;)
	{
		uint32		room = XLOG_BLCKSZ - start % XLOG_BLCKSZ;

		if (left <= room)
			return lsn < start + MAXALIGN(left);
		start += room;
		left -= room;
		if (lsn <= start)
			return true;
		if (lsn < start + sizeof(XLogPageHeaderData) ||
			!continues_record(start, timeline, left))
			return false;
		start += header_size(start);
	}
}

/* The timeline of the record that was replayed last. */
TimeLineID
oa_replay_timeline(void)
{
	TimeLineID	timeline;

	(void) GetXLogReplayRecPtr(&timeline);
	return timeline;
}

/*
 * Has every record that ends at or before "lsn" been replayed, on this
 * timeline?  Positions on different timelines cannot be compared.
 */
bool
oa_is_replayed(XLogRecPtr lsn, TimeLineID timeline)
{
	TimeLineID	replay_timeline;
	TimeLineID	receive_timeline;
	XLogRecPtr	replayed = GetXLogReplayRecPtr(&replay_timeline);
	XLogRecPtr	received;

	if (replay_timeline != timeline)
		return false;
	if (replayed >= lsn)
		return true;

	received = GetWalRcvFlushRecPtr(NULL, &receive_timeline);
	return receive_timeline == timeline && received >= lsn &&
		ends_later(replayed, lsn, timeline);
}
