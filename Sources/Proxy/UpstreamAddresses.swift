import CoreLoop
import HTTP
import Mirror
import Upstream

/// Endpoints with several addresses: the race between two families, and lists that change.
extension ProxyWorker {
    /// Tries the other family beside a connect that takes long (RFC 8305 §5). The exchange stays
    /// with the first until the second is connected.
    func beginRace(_ slot: Int) {
        let upstream = upstreams[slot]
        let endpoint = Int(upstream.pointee.endpoint)
        upstream.pointee.flags.remove(.mayRace)
        let left = settings.limits.connectTimeoutMs - UpstreamLimits.raceDelayMs
        schedule(upstream: slot, ms: left)
        guard upstream.pointee.client >= 0, table.states[endpoint].hasRoom,
            let address = table.lists[endpoint].rival(of: Int(upstream.pointee.addressIndex))
        else { return }
        let second = connect(
            endpoint, of: Int(upstream.pointee.target), address: address,
            attempts: Int(upstream.pointee.attempts) + 1)
        guard second >= 0 else { return }
        upstream.pointee.rival = Int32(second)
        upstreams[second].pointee.rival = Int32(slot)
        counters.add(.upstreamRaces)
        if upstreams[second].pointee.state == .active {
            upstreamConnected(second)
        } else {
            schedule(upstream: second, ms: left)
        }
    }

    /// Parts two that race; the other one's slot.
    func endRace(_ slot: Int) -> Int {
        let other = Int(upstreams[slot].pointee.rival)
        upstreams[slot].pointee.rival = -1
        upstreams[other].pointee.rival = -1
        return other
    }

    /// Takes the addresses that the health process has found. A connection to one that is no longer
    /// named ends with its exchange; an idle one at once.
    func takeNewAddresses() {
        table.takeAddresses { endpoint, former in
            for slot in 0..<upstreams.walkEnd where upstreams.isUsed(slot) {
                let upstream = upstreams[slot]
                guard Int(upstream.pointee.endpoint) == endpoint,
                    !upstream.pointee.flags.contains(.retiring)
                else { continue }
                let index = Int(upstream.pointee.addressIndex)
                let list = table.lists[endpoint]
                let place =
                    index < former.count
                    ? (0..<list.count).first { list[$0] == former[index] } : nil
                if let place {
                    upstream.pointee.addressIndex = UInt8(place)
                } else if upstream.pointee.state == .idle {
                    closeUpstream(slot)
                } else {
                    upstream.pointee.addressIndex = .max
                    upstream.pointee.flags.insert(.retiring)
                }
            }
        }
    }
}
