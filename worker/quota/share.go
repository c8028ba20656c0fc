package quota

// Share returns how many of rate permits belong to a worker that owns the partitions owned, given
// as indexes in the list of all the group's partitions sorted by topic and number. Permit i belongs
// to the partition with the index floor(i*partitions/rate), so all shares add up to exactly rate.
func Share(rate, partitions int, owned []int) int {
	share := 0
	for _, p := range owned {
		// The permits of partition p are the i with p <= i*partitions/rate < p+1.
		share += ceilDiv((p+1)*rate, partitions) - ceilDiv(p*rate, partitions)
	}
	return share
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
