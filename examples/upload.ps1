# Uploads a file with the BITS client of Windows.
#
#   .\upload.ps1 C:\images\win.ckm http://server:8080/images/win.ckm
#
# Not run by the tests of bitsd, which have no Windows; so it does as little as it can.
# The same from cmd.exe, where the URL comes first:
#
#   bitsadmin /transfer "my upload" /upload /priority normal ^
#       http://server:8080/images/win.ckm C:\images\win.ckm
#
# A job goes on after a restart of Windows, but only while its owner is signed in, and
# the file must not change before it is done.

param(
    [Parameter(Mandatory)] [string] $File,
    [Parameter(Mandatory)] [string] $Url
)

$ErrorActionPreference = 'Stop'

# RetryInterval: BITS waits 10 minutes after a failure unless told otherwise, and takes
# no less than 60 seconds.
$job = Start-BitsTransfer -TransferType Upload -Source $File -Destination $Url `
    -DisplayName "upload of $File" -RetryInterval 60 -Asynchronous

while ($job.JobState -in 'Queued', 'Connecting', 'Transferring', 'TransientError') {
    $percent = 0
    if ($job.BytesTotal -gt 0) { $percent = 100 * $job.BytesTransferred / $job.BytesTotal }
    Write-Progress -Activity "Uploading $File" -Status $job.JobState `
        -PercentComplete ([math]::Min($percent, 100))
    Start-Sleep -Seconds 1
}

if ($job.JobState -eq 'Transferred') {
    Complete-BitsTransfer -BitsJob $job
    Write-Output "$Url uploaded"
    exit 0
}

# What 0x80190193 and the like mean: bitsd explain CODE
Write-Output ('{0}: 0x{1:X8} {2}' -f $job.JobState, $job.InternalErrorCode, $job.ErrorDescription)
Write-Output "Put it right, then: Get-BitsTransfer -JobId $($job.JobId) | Resume-BitsTransfer"
Write-Output "Or give it up:      Get-BitsTransfer -JobId $($job.JobId) | Remove-BitsTransfer"
exit 1
