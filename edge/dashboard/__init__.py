"""The page on which a piano is watched: served by the device, live from its broker, no internet.

`edge.dashboard.server` hands out the files of ``static/`` and answers the few questions of the
settings' page; `edge.dashboard.bridge` carries a browser's MQTT to a broker that opens no
websockets; `edge.dashboard.login` keeps the device's password. What is being played never passes
through any of this as anything but bytes between browser and broker.
"""
