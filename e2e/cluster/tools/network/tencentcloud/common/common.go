// Package common holds the three conversions that flannel's tencent-vpc backend asks of Tencent Cloud's SDK.
package common

// StringPtr returns the address of a copy of s.
func StringPtr(s string) *string { return &s }

// StringPtrs returns the addresses of copies of the strings.
func StringPtrs(strings []string) []*string {
	pointers := make([]*string, len(strings))
	for i := range strings {
		pointers[i] = &strings[i]
	}
	return pointers
}

// BoolPtr returns the address of a copy of b.
func BoolPtr(b bool) *bool { return &b }
