"""The sidecar's configuration: from a file, or from flags, to values that are all checked.

``schema`` and ``listen`` have every key and its default, ``values`` what people may write in them,
``flags`` the flags that stand for keys, ``load`` builds it all or refuses it with everything that
is wrong, by file, line and key, or by flag. An unknown key is an error, and nothing changes once it
is read. Nothing is opened or started here.
"""
