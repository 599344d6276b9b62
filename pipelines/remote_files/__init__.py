"""Files behind a connection: on an SFTP server, in an S3 bucket, or at the address of a web server (to read only).

`opening.opened(context, details)` gives a `RemoteFolder`, whose paths start at the connection's base: its folder, its bucket, its address.
Every connection goes through the guard of `brokoli_site.common.addresses`. Reading is bounded in bytes and ends with the node; a file that
is written is seen whole or not at all.
"""
