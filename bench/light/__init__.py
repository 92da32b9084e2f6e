"""The fan-out of a deploy over many hosts, measured: real sshds, the real words of the host library, no docker."""
