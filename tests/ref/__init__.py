"""The obvious Python of the formats: slow, written from the format's description, never shipped.

The native engine is compared with it. Where both could share a misunderstanding, the golden bytes
of other clients (tests/golden) decide.
"""
