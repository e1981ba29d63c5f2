SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.catalogue (
    item_id text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    removed bigint NOT NULL,
    attributes text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.catalogue_vectors (
    item_id text NOT NULL COLLATE pg_catalog."C",
    encoder text NOT NULL COLLATE pg_catalog."C",
    vector bytea NOT NULL
);
CREATE TABLE public.counters (
    name text NOT NULL COLLATE pg_catalog."C",
    value bigint NOT NULL
);
CREATE TABLE public.events (
    seq bigint NOT NULL,
    user_id text NOT NULL COLLATE pg_catalog."C",
    item_id text NOT NULL COLLATE pg_catalog."C",
    "timestamp" bigint NOT NULL
);
ALTER TABLE public.events ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.events_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.imports (
    source text NOT NULL COLLATE pg_catalog."C",
    created bigint NOT NULL
);
CREATE TABLE public.receipts (
    key text NOT NULL COLLATE pg_catalog."C",
    fingerprint text NOT NULL COLLATE pg_catalog."C",
    reply text NOT NULL COLLATE pg_catalog."C",
    created bigint NOT NULL
);
CREATE TABLE public.seqloom_schema (
    version bigint NOT NULL
);
CREATE TABLE public.tokens (
    token_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    secret_sha256 text NOT NULL COLLATE pg_catalog."C",
    scopes text NOT NULL COLLATE pg_catalog."C",
    created bigint NOT NULL,
    expires bigint,
    rate double precision
);
INSERT INTO public.catalogue VALUES ('n1', 1, 0, '{"title": "A new item"}');
INSERT INTO public.catalogue VALUES ('i4', 2, 1, '{"title": "Sold out"}');
INSERT INTO public.catalogue_vectors VALUES ('n1', 'hash-24', '\x000000000000803f0000004000004040');
INSERT INTO public.counters VALUES ('catalogue', 2);
INSERT INTO public.counters VALUES ('reloads', 2);
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (1, 'anna', 'i1', 1600000000);
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (2, 'anna', 'i2', 1600086400);
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (3, 'anna', 'i1', 1600172800);
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (4, 'ben', 'i3', -4611686018427387904);
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (5, 'ben', 'i4', -4611686018427387904);
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (6, 'ben', 'i3', -4611686018427387904);
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (7, 'anna', 'i5', 1700000000);
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (8, 'ünal', 'i;9''\', 1700000001);
INSERT INTO public.events OVERRIDING SYSTEM VALUE VALUES (9, 'anna', 'i5', 1700000000);
INSERT INTO public.imports VALUES ('data-of-the-first-start', 1795868567);
INSERT INTO public.receipts VALUES ('shop:order-7', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', '{"appended": 2}', 1795868568);
INSERT INTO public.seqloom_schema VALUES (1);
INSERT INTO public.seqloom_schema VALUES (2);
INSERT INTO public.seqloom_schema VALUES (3);
INSERT INTO public.seqloom_schema VALUES (4);
INSERT INTO public.tokens VALUES ('t1', 'shop', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'recommend events', 1600000000, NULL, 12.5);
INSERT INTO public.tokens VALUES ('t2', 'admin', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'admin', 1600000001, 1900000000, NULL);
SELECT pg_catalog.setval('public.events_seq_seq', 9, true);
ALTER TABLE ONLY public.catalogue
    ADD CONSTRAINT catalogue_pkey PRIMARY KEY (item_id);
ALTER TABLE ONLY public.catalogue_vectors
    ADD CONSTRAINT catalogue_vectors_pkey PRIMARY KEY (item_id, encoder);
ALTER TABLE ONLY public.counters
    ADD CONSTRAINT counters_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.imports
    ADD CONSTRAINT imports_pkey PRIMARY KEY (source);
ALTER TABLE ONLY public.receipts
    ADD CONSTRAINT receipts_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.tokens
    ADD CONSTRAINT tokens_pkey PRIMARY KEY (token_id);
CREATE INDEX catalogue_by_version ON public.catalogue USING btree (version);
CREATE INDEX events_of_user ON public.events USING btree (user_id, "timestamp", seq);
CREATE INDEX receipts_by_age ON public.receipts USING btree (created);
