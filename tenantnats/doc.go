// Package tenantnats answers two questions for applications that have a NATS: how do the nodes hear of a
// suspension at once, and how do domain events reach other systems? Its [Bus] tells nodes by core NATS,
// its [Publisher] hands events to JetStream. Neither creates streams nor reads from them.
package tenantnats
