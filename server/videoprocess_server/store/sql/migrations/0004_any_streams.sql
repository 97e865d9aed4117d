-- Results of any set of streams. Reports tell how each stream was encoded, where until now they told it of the one there was.
-- Plans of before cannot be read any more, and would not be gone on with: another build's are not. So they go, and their
-- segments with them; the videos are as they were, and are planned anew.

UPDATE jobs SET document = json_remove(
    json_set(
        document,
        '$.report.decoded_frame_count', json_extract(document, '$.report.source_frame_count'),
        '$.report.encodings', json_array(
            json_object(
                'stream_id', coalesce(json_extract(document, '$.snapshot.streams[0].stream_id'), 0),
                'codec', json_extract(document, '$.report.codec'),
                'encoder', json_extract(document, '$.report.encoder'),
                'options', json_extract(document, '$.report.encoder_options'),
                'width', json_extract(document, '$.report.width'),
                'height', json_extract(document, '$.report.height'),
                'pixel_format', json_extract(document, '$.report.pixel_format'),
                'size_bytes', json_extract(document, '$.report.size_bytes'),
                'is_moving', json('true')
            )
        )
    ),
    '$.report.codec', '$.report.encoder', '$.report.encoder_options', '$.report.width', '$.report.height', '$.report.pixel_format'
)
WHERE json_type(document, '$.report') = 'object';

UPDATE events SET document = json_remove(
    json_set(
        document,
        '$.report.decoded_frame_count', json_extract(document, '$.report.source_frame_count'),
        '$.report.encodings', json_array(
            json_object(
                'stream_id', coalesce(json_extract(document, '$.artifacts[0].stream_id'), 0),
                'codec', json_extract(document, '$.report.codec'),
                'encoder', json_extract(document, '$.report.encoder'),
                'options', json_extract(document, '$.report.encoder_options'),
                'width', json_extract(document, '$.report.width'),
                'height', json_extract(document, '$.report.height'),
                'pixel_format', json_extract(document, '$.report.pixel_format'),
                'size_bytes', json_extract(document, '$.report.size_bytes'),
                'is_moving', json('true')
            )
        )
    ),
    '$.report.codec', '$.report.encoder', '$.report.encoder_options', '$.report.width', '$.report.height', '$.report.pixel_format'
)
WHERE json_type(document, '$.report') = 'object';

-- Sound that an edit list hides is kept now; reports that name it have one word for it and for pictures.
UPDATE jobs SET document = replace(document, '"audio_packets_outside_edit"', '"packets_outside_edit"');
UPDATE events SET document = replace(document, '"audio_packets_outside_edit"', '"packets_outside_edit"');

INSERT INTO tombstones (kind, "key", create_time_us)
SELECT 'segments', plan_id, create_time_us FROM plans
WHERE true
ON CONFLICT DO NOTHING;

DELETE FROM plans;

-- A video may be made of two files: pictures from one, sound and metadata from the other.
CREATE INDEX videos_by_companion_upload ON videos (json_extract(document, '$.companion.upload_id'))
WHERE json_extract(document, '$.companion.upload_id') IS NOT NULL;
