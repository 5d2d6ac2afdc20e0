--
-- key_text: the text of keys, their checksum and their digest
--
CREATE EXTENSION overten_auth;

-- The published check value of CRC-32/ISO-HDLC, computed by the same steps in
-- SQL, so that what follows compares with an independent implementation.
CREATE FUNCTION key_crc32(bytes bytea) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	crc bigint := 4294967295;
BEGIN
	FOR i IN 0..length(bytes) - 1 LOOP
		crc := crc # get_byte(bytes, i);
		FOR bit IN 1..8 LOOP
			crc := (crc >> 1) # (CASE WHEN crc & 1 = 1 THEN 3988292384 ELSE 0 END);
		END LOOP;
	END LOOP;
	RETURN crc # 4294967295;
END
$$;
CREATE FUNCTION base62(value bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	digits text := '';
BEGIN
	FOR i IN 1..6 LOOP
		digits := substr('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz',
			(value % 62)::int + 1, 1) || digits;
		value := value / 62;
	END LOOP;
	RETURN digits;
END
$$;
SELECT to_hex(key_crc32('123456789')) AS check_value;

-- The published example of a complete key.
SELECT 'sk_live_0000000000000000000000' || base62(key_crc32('sk_live_0000000000000000000000')) AS key,
	   overten_key_checksum_ok('sk_live_00000000000000000000000K3vO8');

-- Any change of one character is noticed.
SELECT count(*) AS noticed
FROM generate_series(9, 36) position,
	 LATERAL (SELECT overlay('sk_live_00000000000000000000000K3vO8'
		PLACING CASE substr('sk_live_00000000000000000000000K3vO8', position, 1)
				WHEN '7' THEN '8' ELSE '7' END
		FROM position FOR 1)) changed (key)
WHERE NOT overten_key_checksum_ok(key);

-- What is no key has no good checksum, and NULL is NULL.
SELECT overten_key_checksum_ok(key), key
FROM (VALUES (NULL), (''), ('sk_live_'), ('SK_LIVE_00000000000000000000000K3vO8'),
	('sk_test_00000000000000000000000K3vO8'),
	('sk_live_00000000000000000000000K3vO8 '),
	(E'sk_live_00000000000000000000000K3vO8\n'),
	('sk_live_0000000000000000000000K3vO8')) v (key);

-- A thousand minted keys, each of the right form, checksum and digest.
SELECT org_id FROM overten_create_org('Acme Docs') \gset
CREATE TEMP TABLE minted AS
	SELECT m.* FROM generate_series(1, 1000) n, overten_mint_key(:'org_id', 'key ' || n) m;
SELECT count(*) AS minted,
	   count(DISTINCT secret) AS secrets,
	   count(DISTINCT key_id) AS ids,
	   bool_and(secret ~ '^sk_live_[0-9A-Za-z]{28}$') AS form,
	   bool_and(key_id ~ '^key_[0-9A-Za-z]{20}$') AS id_form,
	   bool_and(prefix = left(secret, 12)) AS prefix,
	   bool_and(overten_key_checksum_ok(secret)) AS checksum,
	   bool_and(right(secret, 6) = base62(key_crc32(left(secret, 30)::bytea))) AS same_checksum
FROM minted;
SELECT count(*) AS same_as_pgcrypto
FROM minted m JOIN overten_auth.api_keys k USING (key_id)
WHERE k.digest = public.digest(m.secret, 'sha256');

-- The random characters are uniform.  With 22,000 of them over 62 symbols
-- chi-square has 61 degrees of freedom: a fair generator stays below 130 but
-- for one run in a million, and above 22.  One that took bytes modulo 62
-- would favour 8 symbols by a quarter and reach 206 on the average.
SELECT chi_square BETWEEN 22 AND 130 AS uniform, symbols
FROM (SELECT sum((n - 22000 / 62.0) ^ 2 / (22000 / 62.0)) AS chi_square,
			 count(*) AS symbols
	  FROM (SELECT count(*) AS n
			FROM minted, regexp_split_to_table(substr(secret, 9, 22), '') symbol
			GROUP BY symbol) counts) statistic;

-- So does each of the 22 places, and no place depends on its neighbour.
SELECT count(*) AS biased_places
FROM (SELECT place, sum((n - 1000 / 62.0) ^ 2 / (1000 / 62.0))
		+ (62 - count(*)) * 1000 / 62.0 AS chi_square
	  FROM (SELECT place, count(*) AS n
			FROM minted, generate_series(9, 30) place
			GROUP BY place, substr(secret, place, 1)) counts
	  GROUP BY place) statistic
WHERE chi_square > 140;

-- A webhook secret is that of Standard Webhooks: 24 bytes in base64.
SELECT DISTINCT webhook_secret ~ '^whsec_[0-9A-Za-z+/]{32}$' AS form,
	   length(decode(substr(webhook_secret, 7), 'base64')) AS bytes
FROM minted, overten_verify_key(secret);

DROP FUNCTION key_crc32, base62;
DROP EXTENSION overten_auth;
